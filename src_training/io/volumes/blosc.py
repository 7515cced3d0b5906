"""Chunks cut short, which blosc's decoder reads beyond without a word."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_training.errors import InputError

# Of a blosc chunk: 16 bytes, of which the last four tell its whole size.
_HEADER = 16


class WholeChunks:
    """A zarr array on disk whose blosc chunks are measured before they are decoded.

    A chunk of the right size with wrong bytes in it cannot be told: blosc has
    no checksum.

    Parameters
    ----------
    folder
        Of the store.
    array
        Of that store; not sharded.
    """

    def __init__(self, folder: Path, array: Any) -> None:
        self._folder = folder / array.path
        self._array = array

    def __getitem__(self, index: tuple[Any, ...]) -> NDArray[Any]:
        for place in product(*map(_chunks, index, self._array.shape, self._array.chunks)):
            _measure(self._folder / self._array.metadata.encode_chunk_key(place))
        return np.asarray(self._array[index])


def packs_with_blosc(array: Any) -> bool:
    """Whether an array has blosc chunks, one a file."""
    names = [type(codec).__name__.lower() for codec in array.compressors]
    return array.shards is None and any("blosc" in name for name in names)


def _chunks(index: Any, size: int, chunk: int) -> list[int]:
    """The chunks that an index along one axis touches."""
    return sorted({int(each) // chunk for each in np.atleast_1d(np.arange(size)[index])})


def _measure(file: Path) -> None:
    if not file.is_file():  # never written: the fill value
        return
    with file.open("rb") as opened:
        header = opened.read(_HEADER)
    size = file.stat().st_size
    whole = int.from_bytes(header[12:], "little")
    if size < _HEADER or size != whole:
        raise InputError(f"{file} is a chunk of {size} bytes; expected the {whole} it tells itself")
