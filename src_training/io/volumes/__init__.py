"""Volumes in and out: NIfTI, DICOM series, TIFF stacks, zarr and OME-Zarr, read lazily."""
