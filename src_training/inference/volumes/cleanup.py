"""Cleaning labels up: the largest body of a class, no holes in it."""

from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray
from scipy import ndimage

from src_training.errors import InputError
from src_training.inference.volumes.slabs import slabs_of

_BYTES = 10
"""Of memory for a voxel of a class's box: its mask, numbers of bodies, and copies of both."""


def clean_up(labels: Any, *, largest: tuple[int, ...] = (), filled: tuple[int, ...] = ()) -> None:
    """Clean labels up in place.

    A class is held in memory where it lies, in its bounding box.

    Parameters
    ----------
    labels
        (Z, Y, X) uint8, NumPy or zarr.
    largest
        Classes of which only the largest body is kept (26 neighbours);
        the rest becomes background.
    filled
        Classes whose holes, background that they enclose (6 neighbours),
        become theirs. After `largest`.

    Raises
    ------
    InputError
        If a class takes more memory than is free; the labels stay as they are.
    """
    # All bodies before any hole, so that cleaning what is partly cleaned ends the same.
    for clean, classes in ((_largest, largest), (_filled, filled)):
        for index in sorted(set(classes)):
            box = _box(labels, index)
            if box is not None:
                _refuse_large(box, index)
                labels[box] = clean(np.asarray(labels[box]), index)


def _box(labels: Any, index: int) -> tuple[slice, ...] | None:
    """Where a class lies, with one voxel around it; portion by portion."""
    low = np.array(labels.shape)
    high = np.zeros(3, int)
    for portion in slabs_of(tuple(labels.shape), 0):
        part = np.asarray(labels[portion.region]) == index
        if not part.any():
            continue
        planes, rows, columns = (
            np.flatnonzero(part.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))
        )
        sides = (planes + portion.start, rows, columns)
        found = np.array([[side[0], side[-1]] for side in sides])
        low, high = np.minimum(low, found[:, 0]), np.maximum(high, found[:, 1] + 1)
    if not high.any():
        return None
    ends = np.minimum(high + 1, labels.shape)
    return tuple(slice(max(0, a - 1), b) for a, b in zip(low.tolist(), ends.tolist(), strict=True))


def _largest(part: NDArray[np.uint8], index: int) -> NDArray[np.uint8]:
    bodies, count = ndimage.label(part == index, np.ones((3, 3, 3)))
    if count < 2:
        return part
    sizes = np.bincount(bodies.ravel())
    sizes[0] = 0
    others = (bodies != 0) & (bodies != sizes.argmax())
    return np.where(others, np.uint8(0), part)


def _filled(part: NDArray[np.uint8], index: int) -> NDArray[np.uint8]:
    holes = ndimage.binary_fill_holes(part == index) & (part == 0)
    return np.where(holes, np.uint8(index), part)


def _refuse_large(box: tuple[slice, ...], index: int) -> None:
    needed = _BYTES * int(np.prod([each.stop - each.start for each in box], dtype=np.int64))
    free = psutil.virtual_memory().available
    if needed > free:
        raise InputError(
            f"cleaning class {index} up takes about {needed / 1e9:.1f} GB of memory and "
            f"{free / 1e9:.1f} GB are free; expected more, or no clean-up"
        )
