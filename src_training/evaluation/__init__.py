"""How good a segmentation is, and how far apart two domains are."""
