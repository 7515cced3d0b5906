"""Arrays in files as dask arrays, opened when they are read; labels a few slices at a time."""

import math
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from src_training.errors import InputError
from src_training.io.decoders.base import as_input_error, require_memory

# Bytes of labels, as uint8, in memory at a time.
_SLAB = 2**26
_MOST_CHUNKS = 10**7


class StoredArray:
    """An array in a file, opened once in each process that reads it.

    Pickling it, to another machine for example, sends the path and not the
    open file.

    Parameters
    ----------
    path
        Named by errors.
    opened
        Opens the array: a function of a module, or a partial of one.
    shape, dtype
        What is read; the values are cast.
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
    """Return a dask array of a stored one; computing it raises `InputError` as that does.

    Raises
    ------
    InputError
        If a chunk is larger than the memory that is free, or there are more than a list of them
        can have: a header of some bytes may say anything.
    """
    import dask.array as da

    size = " × ".join(map(str, stored.shape))
    require_memory(stored.path, f"{size}, in chunks", math.prod(chunks), stored.dtype.itemsize)
    count = math.prod(
        -(-side // max(1, chunk)) for side, chunk in zip(stored.shape, chunks, strict=True)
    )
    if count > _MOST_CHUNKS:
        raise InputError(
            f"{stored.path} is {size} in {count:,} chunks; expected at most {_MOST_CHUNKS:,}"
        )

    return da.from_array(
        stored, chunks=chunks, name=False, asarray=False, meta=np.empty(0, stored.dtype)
    )


def number_dtype(dtype: DTypeLike, path: Path) -> np.dtype[Any]:
    """Return a dtype of real numbers in native byte order; bool becomes uint8.

    Raises
    ------
    InputError
        If it is of other things: colours, complex numbers, text; names `path`.

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
    """Return the three axes of one volume, without further ones of length 1.

    Parameters
    ----------
    shape
        As stored.
    path
        Named by errors.
    leading
        Whether further axes come before the three, or after them.

    Raises
    ------
    InputError
        If there are fewer axes, a further one is longer, or one is empty.

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
    """Yield successive slabs of labels across an axis, checked.

    Parameters
    ----------
    labels
        (A, B, C), NumPy, dask or zarr, bool or integer.
    path
        What they are written to; named by errors.
    axis
        The axis that is cut.

    Yields
    ------
    ndarray
        uint8, of at most about 64 MB or one slice.

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
