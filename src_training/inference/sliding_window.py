"""Windows that cover an image, and the blending of what a network predicts in them."""

import math

import torch
from torch import Tensor

from src_training.data.preprocessing.geometry import Float

Window = tuple[slice, slice]
"""Rows and columns of an image."""

WHOLE_IMAGE_PIXELS = 1024 * 1024
"""Up to so many pixels an image is one window, unless a side is asked for."""

MIN_TILE_SIDE = 512
"""Least side of the windows of a larger image, pixels, unless a side is asked for."""


def round_up(value: int, multiple: int) -> int:
    """The smallest multiple that is at least a value.

    >>> round_up(33, 8)
    40
    """
    return math.ceil(value / multiple) * multiple


def tile_shape(size: tuple[int, int], side: int | None, patch: int, stride: int) -> tuple[int, int]:
    """Height and width of the windows of an image, multiples of the network's stride.

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
        Of the network.

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
    """Windows of one shape that cover an image and start at multiples of the stride.

    Parameters
    ----------
    size
        Height and width of the image; windows may reach to the next multiple
        of the stride.
    tile
        Height and width of a window, from `tile_shape`.
    overlap
        Part of a window that the next one covers again, in [0, 1).
    stride
        Of the network.

    Examples
    --------
    >>> for _, columns in sliding_windows((8, 24), (8, 16), 0.5, 8):
    ...     print(columns.start, columns.stop)
    0 16
    8 24
    """
    from monai.data.utils import dense_patch_slices

    whole = (round_up(size[0], stride), round_up(size[1], stride))
    step = [max(stride, int(side * (1 - overlap)) // stride * stride) for side in tile]
    return [(window[0], window[1]) for window in dense_patch_slices(whole, tile, step)]


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
        from monai.data.utils import compute_importance_map

        self._importance = compute_importance_map(tile, mode="gaussian")
        self._sum = torch.zeros(classes, *size)
        self._weight = torch.zeros(size)

    def add(self, tiles: Tensor, windows: list[Window]) -> None:
        """Add the probabilities (B, K, h, w) of B windows."""
        for tile, (rows, columns) in zip(tiles, windows, strict=True):
            self._sum[:, rows, columns] += tile * self._importance
            self._weight[rows, columns] += self._importance

    def read(self, window: Window) -> Float:
        """Average maps (K, h, w) of a window; 1 for the background where nothing was added."""
        rows, columns = window
        weight = self._weight[rows, columns]
        maps = self._sum[:, rows, columns] / weight.clamp(min=torch.finfo(torch.float32).tiny)
        maps[0][weight == 0] = 1
        return maps.numpy()
