"""XMem: long-term video object segmentation (Cheng and Schwing, ECCV 2022, arXiv 2207.07115)."""
