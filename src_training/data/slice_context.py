"""The slices around a slice: what 2.5-D networks see as channels."""

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

# 10001_95, ct_z012, and stack-007 as slices of one layer are called; malignant_1 is no slice.
_SLICE = re.compile(r"(?P<volume>.*\d.*_|.*_z|.*-)(?P<number>\d+)")


def adjacent_slice_name(name: str, offset: int) -> str | None:
    """What the slice so far from another is called, if it is there; None if `name` is no slice.

    Examples
    --------
    >>> [adjacent_slice_name(*pair) for pair in (("10001_95", 1), ("ct_z010", -1), ("lesion_1", 1))]
    ['10001_96', 'ct_z009', None]
    """
    match = _SLICE.fullmatch(name)
    if match is None or (number := int(match["number"]) + offset) < 0:
        return None
    return f"{match['volume']}{number:0{len(match['number'])}d}"


def neighbouring(volume: Any, index: int, count: int, axis: int = 0) -> NDArray[Any]:
    """A slice of a volume and its neighbours, as channels.

    Parameters
    ----------
    volume
        (Z, Y, X), an array or whatever is read when it is sliced (dask, zarr).
    index
        Of the slice along `axis`.
    count
        Odd: the slice, and as many on either side of it.
    axis
        That the slices follow.

    Returns
    -------
    ndarray
        (H, W, count), from the slice before to the slice after; beyond the
        ends of the volume its first or last slice is repeated.
    """
    length = volume.shape[axis]
    wanted = np.clip(np.arange(index - count // 2, index + count // 2 + 1), 0, length - 1)
    low = int(wanted[0])
    before: tuple[slice, ...] = (slice(None),) * axis
    read = np.asarray(volume[(*before, slice(low, int(wanted[-1]) + 1))])
    return np.ascontiguousarray(np.moveaxis(read, axis, -1)[..., wanted - low])
