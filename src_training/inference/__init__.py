"""Models as files, and segmenting with them."""
