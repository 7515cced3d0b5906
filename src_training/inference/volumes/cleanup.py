"""Clean-up of labels: keep the largest connected component of a class, and fill its holes."""

from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray
from scipy import ndimage

from src_training.errors import InputError
from src_training.formatting import format_bytes
from src_training.inference.volumes.slabs import slabs_along

BYTES_PER_VOXEL = 10
"""Memory per voxel of a class's bounding box: mask, component numbers, and copies of both."""


def clean_up(labels: Any, *, largest: tuple[int, ...] = (), filled: tuple[int, ...] = ()) -> None:
    """Clean up labels in place.

    Each class is loaded into memory within its bounding box.

    Parameters
    ----------
    labels
        (Z, Y, X) uint8, NumPy or zarr.
    largest
        Classes of which only the largest connected component (26 neighbours)
        is kept; other components become background.
    filled
        Classes whose holes are filled: background that they enclose (6 neighbours).
        This is done after `largest`.

    Raises
    ------
    InputError
        If a class needs more memory than is free; its labels do not change.

    Examples
    --------
    >>> labels = np.array([[[1, 1, 0, 0, 1]]], np.uint8)
    >>> clean_up(labels, largest=(1,))
    >>> labels.tolist()
    [[[1, 1, 0, 0, 0]]]
    """
    # Components of all classes before the holes of any, so that the clean-up is idempotent.
    for clean, classes in ((_keep_largest, largest), (_fill_holes, filled)):
        for index in sorted(set(classes)):
            box = _bounding_box(labels, index)
            if box is not None:
                _refuse_large(box, index)
                labels[box] = clean(np.asarray(labels[box]), index)


def _bounding_box(labels: Any, index: int) -> tuple[slice, ...] | None:
    """Bounding box of a class with a margin of one voxel, read slab by slab; None if absent."""
    low = np.array(labels.shape)
    high = np.zeros(3, int)
    for slab in slabs_along(tuple(labels.shape), 0):
        part = np.asarray(labels[slab.region]) == index
        if not part.any():
            continue
        slices, rows, columns = (
            np.flatnonzero(part.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))
        )
        sides = (slices + slab.start, rows, columns)
        ends = np.array([[side[0], side[-1]] for side in sides])
        low, high = np.minimum(low, ends[:, 0]), np.maximum(high, ends[:, 1] + 1)
    if not high.any():
        return None
    stops = np.minimum(high + 1, labels.shape)
    return tuple(slice(max(0, a - 1), b) for a, b in zip(low.tolist(), stops.tolist(), strict=True))


def _keep_largest(part: NDArray[np.uint8], index: int) -> NDArray[np.uint8]:
    components, count = ndimage.label(part == index, np.ones((3, 3, 3)))
    if count < 2:
        return part
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    others = (components != 0) & (components != sizes.argmax())
    return np.where(others, np.uint8(0), part)


def _fill_holes(part: NDArray[np.uint8], index: int) -> NDArray[np.uint8]:
    holes = ndimage.binary_fill_holes(part == index) & (part == 0)
    return np.where(holes, np.uint8(index), part)


def _refuse_large(box: tuple[slice, ...], index: int) -> None:
    voxels = int(np.prod([side.stop - side.start for side in box], dtype=np.int64))
    needed, free = BYTES_PER_VOXEL * voxels, psutil.virtual_memory().available
    if needed > free:
        raise InputError(
            f"cleaning up class {index} takes about {format_bytes(needed)} of memory and "
            f"{format_bytes(free)} are free; expected more, or no clean-up"
        )
