"""Volumes larger than memory: segmented portion by portion into zarr, on one machine or many."""
