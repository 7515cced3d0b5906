"""Decoders of image files: Pillow, tifffile, NumPy and zarr."""
