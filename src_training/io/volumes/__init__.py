"""Reading volumes lazily, and writing labels: NIfTI, DICOM, TIFF stacks, zarr and OME-Zarr."""
