"""Arrays in files as dask arrays: opened when read, and failing in one sentence."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from src_training.errors import InputError


@contextmanager
def told(path: Path, expected: str) -> Iterator[None]:
    """Say whatever a decoder stumbles over in one sentence.

    Raises
    ------
    InputError
        Names `path` and what was `expected`.
    """
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:  # decoders raise anything on a broken file: zlib, struct, EOF...
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path} cannot be read ({reason}); expected {expected}") from error


class StoredArray:
    """An array in a file, opened once in each process that reads it.

    What is pickled, to another machine say, is the path and not the open file.

    Parameters
    ----------
    path
        Named by errors.
    opened
        Opens the array: a function of a module, or a partial of one.
    shape, dtype
        Of what is read; the values are cast.
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
        with told(self.path, "a whole file"):
            return np.asarray(self._array[index]).astype(self.dtype, copy=False)


def number_dtype(dtype: DTypeLike, path: Path) -> np.dtype[Any]:
    """A dtype of real numbers in native byte order; bool becomes uint8.

    Raises
    ------
    InputError
        If it is of other things: colours, complex numbers, text; names `path`.
    """
    dtype = np.dtype(dtype)
    if dtype.kind not in "buif":
        raise InputError(f"{path} holds {dtype}; expected integers or floating point")
    return np.dtype(np.uint8) if dtype.kind == "b" else dtype.newbyteorder("=")


def as_dask(stored: StoredArray, chunks: tuple[int, ...]) -> Any:
    """A dask array of a stored one; a later error is an `InputError` that names the file."""
    import dask.array as da

    return da.from_array(
        stored, chunks=chunks, name=False, asarray=False, meta=np.empty(0, stored.dtype)
    )
