"""STCN: space-time correspondence networks (Cheng, Tai and Tang, NeurIPS 2021, arXiv 2106.05210)."""
