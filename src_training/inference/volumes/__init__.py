"""Segmenting volumes larger than memory, slab by slab, on one machine or several."""
