"""SiamMask: tracking and segmentation by one siamese network (Wang et al., CVPR 2019, arXiv 1812.05050)."""
