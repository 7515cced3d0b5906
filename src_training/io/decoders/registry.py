"""Choosing the decoder of a file by its suffix: Pillow, tifffile, NumPy or zarr."""

import math
from pathlib import Path

import numpy as np

from src_training.io.decoders.base import Pixels, require_memory
from src_training.io.decoders.pictures import PICTURE_SUFFIXES, picture_shape, read_picture
from src_training.io.decoders.tiff import TIFF_SUFFIXES, read_tiff, tiff_shape
from src_training.io.decoders.zarr_array import open_zarr_array

IMAGE_SUFFIXES = PICTURE_SUFFIXES | TIFF_SUFFIXES | {".npy", ".zarr"}


def decode(path: Path, labels: bool) -> Pixels:
    """Decode a file with its stored values.

    Parameters
    ----------
    path
        File with one of `IMAGE_SUFFIXES`, which determines the decoder.
    labels
        Whether to return palette indices (or grey values of a grey palette) instead of colours,
        and to keep an alpha channel, as the last channel.

    Raises
    ------
    Exception
        Of any type, from the decoders, if the file is broken.
    """
    suffix = path.suffix.lower()
    if suffix in TIFF_SUFFIXES:
        return read_tiff(path, labels)
    if suffix == ".npy":
        # Memory-mapping fails for a truncated file before memory is allocated.
        stored = np.load(path, mmap_mode="r", allow_pickle=False)
        require_memory(path, f"of shape {stored.shape}", stored.size, stored.itemsize)
        return np.array(stored)
    if suffix == ".zarr":
        array = open_zarr_array(path)
        numbers = max(math.prod(array.shape), math.prod(array.chunks))
        require_memory(path, f"of shape {array.shape}", numbers, array.dtype.itemsize)
        return np.asarray(array[...])
    return read_picture(path, labels)


def decoded_shape(path: Path) -> tuple[int, ...]:
    """Return the shape of the result of `decode` from the header alone; raises as `decode`."""
    suffix = path.suffix.lower()
    if suffix in TIFF_SUFFIXES:
        return tiff_shape(path)
    if suffix == ".npy":
        return tuple(np.load(path, mmap_mode="r", allow_pickle=False).shape)
    if suffix == ".zarr":
        return tuple(open_zarr_array(path).shape)
    return picture_shape(path)
