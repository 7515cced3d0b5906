"""Volumes larger than memory, segmented slab by slab on one machine or many."""
