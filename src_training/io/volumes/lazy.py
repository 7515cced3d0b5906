"""Lazy dask arrays of arrays in files, and iteration over slabs of labels."""

import math
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from src_training.errors import InputError
from src_training.io.decoders.base import as_input_error, require_memory

# Maximum bytes of a slab of labels, as uint8.
_SLAB = 2**26
_MAX_CHUNKS = 10**7


class StoredArray:
    """An array in a file, opened once in each process that reads it.

    Pickling it sends the path instead of the open file, such as to a worker on another machine.

    Parameters
    ----------
    path
        Path of the file for errors.
    opened
        Picklable function that opens the array.
    shape, dtype
        Shape of the array, and dtype that its values are cast to.
    """

    def __init__(
        self, path: Path, opened: Callable[[], Any], shape: tuple[int, ...], dtype: DTypeLike
    ) -> None:
        self.path = path
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self.ndim = len(shape)
        self._opened = opened

    def __reduce__(self) -> tuple[Any, ...]:
        return StoredArray, (self.path, self._opened, self.shape, self.dtype)

    @cached_property
    def _array(self) -> Any:
        return self._opened()

    def __getitem__(self, index: Any) -> NDArray[Any]:
        with as_input_error(self.path, "a whole file"):
            return np.asarray(self._array[index]).astype(self.dtype, copy=False)


def as_dask(stored: StoredArray, chunks: tuple[int, ...]) -> Any:
    """Return a dask array of a stored array; computing it raises `InputError` for a broken file.

    Raises
    ------
    InputError
        If a chunk is larger than the free memory, or there are too many chunks, as a corrupt
        header may declare.
    """
    import dask.array as da

    size = " × ".join(map(str, stored.shape))
    require_memory(stored.path, f"{size}, in chunks", math.prod(chunks), stored.dtype.itemsize)
    count = math.prod(
        -(-side // max(1, chunk)) for side, chunk in zip(stored.shape, chunks, strict=True)
    )
    if count > _MAX_CHUNKS:
        raise InputError(
            f"{stored.path} is {size} in {count:,} chunks; expected at most {_MAX_CHUNKS:,}"
        )

    return da.from_array(
        stored, chunks=chunks, name=False, asarray=False, meta=np.empty(0, stored.dtype)
    )


def number_dtype(dtype: DTypeLike, path: Path) -> np.dtype[Any]:
    """Convert a dtype of real numbers to native byte order; bool becomes uint8.

    Raises
    ------
    InputError
        If it is a dtype of colours, complex numbers or text; the message names `path`.

    Examples
    --------
    >>> number_dtype(">i2", Path("scan.nii"))
    dtype('int16')
    """
    dtype = np.dtype(dtype)
    if dtype.kind not in "buif":
        raise InputError(f"{path} holds {dtype}; expected integers or floating point")
    return np.dtype(np.uint8) if dtype.kind == "b" else dtype.newbyteorder("=")


def three_axes(shape: tuple[int, ...], path: Path, leading: bool) -> tuple[int, int, int]:
    """Return the three axes of a volume's shape, without additional axes of length 1.

    Parameters
    ----------
    shape
        Stored shape.
    path
        Path of the file for errors.
    leading
        Whether additional axes are before the three, instead of after them.

    Raises
    ------
    InputError
        If there are fewer axes, an additional one is longer, or one is empty.

    Examples
    --------
    >>> three_axes((512, 512, 90, 1), Path("scan.nii"), leading=False)
    (512, 512, 90)
    """
    axes, others = (shape[-3:], shape[:-3]) if leading else (shape[:3], shape[3:])
    if len(shape) < 3 or any(length != 1 for length in others):
        raise InputError(
            f"{path} has {len(shape)} axes, {' x '.join(map(str, shape))}; "
            "expected the three of one volume"
        )
    if min(shape) < 1:
        raise InputError(f"{path} has shape {shape}, no voxels; expected at least one")
    return axes[0], axes[1], axes[2]


def label_slabs(labels: Any, path: Path, axis: int = 0) -> Iterator[NDArray[np.uint8]]:
    """Yield successive slabs of labels along an axis, and check their values.

    Parameters
    ----------
    labels
        (A, B, C), NumPy, dask or zarr, bool or integer.
    path
        Path that they are written to, for errors.
    axis
        Axis to split.

    Yields
    ------
    ndarray
        uint8, at most about 64 MB or one slice.

    Raises
    ------
    InputError
        If a value is below 0 or above 255.
    """
    slices = int(labels.shape[axis])
    count = max(1, _SLAB * slices // max(1, int(np.prod(labels.shape, dtype=np.int64))))
    for first in range(0, slices, count):
        slab = np.asarray(labels[(slice(None),) * axis + (slice(first, first + count),)])
        if slab.min() < 0 or slab.max() > 255:
            raise InputError(
                f"labels for {path} run from {slab.min()} to {slab.max()}; "
                "expected integers from 0 to 255"
            )
        yield slab.astype(np.uint8)
