"""Windows that cover an image, and the blending of the predictions in them."""

import math
from itertools import product

import torch
from torch import Tensor
from torch.signal.windows import gaussian

from src_training.data.preprocessing.geometry import Float

Window = tuple[slice, slice]
"""Rows and columns of an image."""

WHOLE_IMAGE_PIXELS = 1536 * 1536
"""Maximum number of pixels of an image that is one window, unless a side is given."""

MIN_TILE_SIDE = 512
"""Minimum side of the windows of a larger image in pixels, unless a side is given."""

_BANDS, _BAND_SHARE = 3, 1 / 11
_MIN_BAND_ROWS = 40
"""In lower bands most features would see the zeros beyond their edges."""

_SPREAD = 1 / 8
"""Standard deviation of the weights of a window, relative to its side."""

_MIN_IMPORTANCE = 1e-3
"""Lower bound of these weights."""


def round_up(value: int, multiple: int) -> int:
    """Round a value up to a multiple.

    >>> round_up(33, 8)
    40
    """
    return math.ceil(value / multiple) * multiple


def tile_shape(size: tuple[int, int], side: int | None, patch: int, stride: int) -> tuple[int, int]:
    """Return height and width of the windows of an image, multiples of the network's stride.

    Parameters
    ----------
    size
        Height and width of the image.
    side
        Side to use; None for the whole image up to `WHOLE_IMAGE_PIXELS`, else
        the training patch, at least `MIN_TILE_SIDE`.
    patch
        Side of the training patch.
    stride
        Stride of the network.

    Examples
    --------
    >>> tile_shape((300, 301), None, 256, 32), tile_shape((9000, 300), None, 256, 32)
    ((320, 320), (512, 320))
    """
    whole = (round_up(size[0], stride), round_up(size[1], stride))
    if side is None and size[0] * size[1] <= WHOLE_IMAGE_PIXELS:
        return whole
    side = round_up(side or max(patch, MIN_TILE_SIDE), stride)
    return min(side, whole[0]), min(side, whole[1])


def sliding_windows(
    size: tuple[int, int], tile: tuple[int, int], overlap: float, stride: int
) -> list[Window]:
    """Return windows of one shape that cover an image and start at multiples of the stride.

    Parameters
    ----------
    size
        Height and width of the image; windows may reach to the next multiple
        of the stride.
    tile
        Height and width of a window, from `tile_shape`.
    overlap
        Overlap of neighbouring windows as a share of their side, in [0, 1).
    stride
        Stride of the network.

    Examples
    --------
    >>> for _, columns in sliding_windows((8, 24), (8, 16), 0.5, 8):
    ...     print(columns.start, columns.stop)
    0 16
    8 24
    """
    rows, columns = (
        _spans(round_up(length, stride), side, overlap, stride)
        for length, side in zip(size, tile, strict=True)
    )
    return list(product(rows, columns))


def bands(size: tuple[int, int], stride: int) -> list[Window]:
    """Return three bands of rows, evenly spaced over an image, with about 3 of 11 rows.

    An image that is not tall is one window.

    >>> [(rows.start, rows.stop) for rows, _ in bands((704, 640), 32)]
    [(64, 128), (320, 384), (544, 608)]
    >>> bands((300, 320), 32)
    [(slice(0, 320, None), slice(0, 320, None))]
    """
    height, width = (round_up(each, stride) for each in size)
    rows = round_up(int(height * _BAND_SHARE), stride)
    if rows < _MIN_BAND_ROWS:
        return [(slice(0, height), slice(0, width))]
    middles = [height * (2 * index + 1) / (2 * _BANDS) for index in range(_BANDS)]
    starts = [int(middle - rows / 2) // stride * stride for middle in middles]
    return [(slice(start, start + rows), slice(0, width)) for start in starts]


def bounding_window(windows: list[Window]) -> Window:
    """The smallest window that contains all `windows`."""
    rows, columns = zip(*windows, strict=True)
    return (
        slice(min(r.start for r in rows), max(r.stop for r in rows)),
        slice(min(c.start for c in columns), max(c.stop for c in columns)),
    )


def _spans(length: int, side: int, overlap: float, stride: int) -> list[slice]:
    """Spans of equal length that cover a side; the last ends at its end."""
    step = max(stride, int(side * (1 - overlap)) // stride * stride)
    starts = [min(start, length - side) for start in range(0, length - side + step, step)]
    return [slice(start, start + side) for start in starts]


class BlendedMaps:
    """Probabilities of windows, averaged with Gaussian weights, on the CPU.

    Parameters
    ----------
    classes
        Number of maps.
    size
        Height and width of the image that the windows cover.
    tile
        Height and width of a window.
    """

    def __init__(self, classes: int, size: tuple[int, int], tile: tuple[int, int]) -> None:
        # The Gaussian importance map of MONAI, whose `monai.data` takes too long to import.
        height, width = (gaussian(side, std=_SPREAD * side) for side in tile)
        self._importance = torch.outer(height, width).clamp(min=_MIN_IMPORTANCE)
        self._sum = torch.zeros(classes, *size)
        self._weight = torch.zeros(size)

    def add(self, tiles: Tensor, windows: list[Window]) -> None:
        """Add the probabilities (B, K, h, w) of B windows."""
        for tile, (rows, columns) in zip(tiles, windows, strict=True):
            self._sum[:, rows, columns] += tile * self._importance
            self._weight[rows, columns] += self._importance

    def read(self, window: Window) -> Float:
        """Return the average maps (K, h, w) of a window; background 1 where nothing was added."""
        rows, columns = window
        weight = self._weight[rows, columns]
        maps = self._sum[:, rows, columns] / weight.clamp(min=torch.finfo(torch.float32).tiny)
        maps[0][weight == 0] = 1
        return maps.numpy()
