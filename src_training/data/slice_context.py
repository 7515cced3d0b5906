"""Names of slices, and neighbouring slices as the channels of a 2.5-D network."""

import re
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

# Slices of a single layer are named like stack-007.
_SLICE_NAME = re.compile(
    r"(?P<volume>.*\d.*(?=_\d)|.*(?=_z\d)|.*(?=-\d))(?P<joint>_z?|-)(?P<number>\d+)"
)


class SliceName(NamedTuple):
    """The parts of a slice's name, such as ``ct``, ``_z`` and ``012``."""

    volume: str
    joint: str
    number: str


def parse_slice_name(name: str) -> SliceName | None:
    """Return the parts of the name of a slice; None if it is not a slice name.

    A number after ``_`` is a slice number only if the volume's name has a digit;
    ``malignant_1`` is not a slice name.

    Examples
    --------
    >>> parse_slice_name("ct_z012")
    SliceName(volume='ct', joint='_z', number='012')
    >>> parse_slice_name("10001_95").volume, parse_slice_name("malignant_1")
    ('10001', None)
    """
    match = _SLICE_NAME.fullmatch(name)
    return SliceName(*match.group("volume", "joint", "number")) if match else None


def slice_name(volume: str, index: int, depth: int) -> str:
    """Return the name of a slice of a volume of `depth` slices.

    Examples
    --------
    >>> slice_name("ct", 12, 90)
    'ct_z012'
    """
    return f"{volume}_z{index:0{max(3, len(str(depth - 1)))}d}"


def adjacent_slice_name(name: str, offset: int) -> str | None:
    """Return the name of the slice at an offset; None if `name` is not a slice name.

    Examples
    --------
    >>> adjacent_slice_name("10001_95", 1), adjacent_slice_name("ct_z010", -1)
    ('10001_96', 'ct_z009')
    """
    parts = parse_slice_name(name)
    if parts is None or (number := int(parts.number) + offset) < 0:
        return None
    return f"{parts.volume}{parts.joint}{number:0{len(parts.number)}d}"


def neighbouring(volume: Any, index: int, count: int, axis: int = 0) -> NDArray[Any]:
    """Return a slice of a volume and its neighbours as channels.

    Parameters
    ----------
    volume
        (Z, Y, X) array; a lazy array (dask, zarr) is only read where it is sliced.
    index
        Index of the slice along `axis`.
    count
        Number of slices, odd, centred on the slice.
    axis
        Axis across the slices.

    Returns
    -------
    ndarray
        (H, W, count), in the order of the slices; beyond the ends of the volume
        its first or last slice is repeated.
    """
    length = volume.shape[axis]
    wanted = np.clip(np.arange(index - count // 2, index + count // 2 + 1), 0, length - 1)
    low = int(wanted[0])
    before: tuple[slice, ...] = (slice(None),) * axis
    read = np.asarray(volume[(*before, slice(low, int(wanted[-1]) + 1))])
    return np.ascontiguousarray(np.moveaxis(read, axis, -1)[..., wanted - low])
