"""An image seen in patches of one size, and what is made of them as one map again."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from src_training.data.preprocessing.geometry import Float

_BATCH = 4

Window = tuple[slice, slice]


class Mosaic:
    """Patches side by side over the whole of an image.

    The last patch of a row or a column overlaps its neighbour, where maps
    are the mean of both. Beyond the image there are zeros.

    Parameters
    ----------
    pixels
        (C, h, w) of a prepared image.
    patch
        Side of the patches, pixels; a multiple of `stride`.
    stride
        Patches begin at multiples of it.

    Attributes
    ----------
    size
        Height and width that the patches cover, at least those of the image;
        multiples of `stride`.
    """

    def __init__(self, pixels: Float, patch: int, stride: int = 1) -> None:
        from monai.data.utils import dense_patch_slices

        height, width = (max(patch, -(-side // stride) * stride) for side in pixels.shape[-2:])
        beyond = (0, width - pixels.shape[-1], 0, height - pixels.shape[-2])
        self.size = (height, width)
        self._pixels = F.pad(torch.from_numpy(pixels), beyond)
        self._patch = patch
        windows = dense_patch_slices(self.size, (patch, patch), (patch, patch))
        self._windows: list[Window] = [(rows, columns) for rows, columns in windows]

    def batches(self) -> Iterator[Tensor]:
        """The patches (B, C, patch, patch), a few at a time."""
        for start in range(0, len(self._windows), _BATCH):
            chosen = self._windows[start : start + _BATCH]
            yield torch.stack([self._pixels[:, rows, columns] for rows, columns in chosen])

    def joined(self, maps: Tensor) -> Tensor:
        """Maps (N, ..., q, q) of all patches in their order as one (..., H, W).

        A patch of side q covers as much as one of the image's, so H and W are
        those of `size` times q / patch.
        """
        side = maps.shape[-1]
        cell = self._patch // side
        height, width = (length // cell for length in self.size)
        total = torch.zeros(*maps.shape[1:-2], height, width)
        count = torch.zeros(height, width)
        for each, (rows, columns) in zip(maps, self._windows, strict=True):
            top, left = rows.start // cell, columns.start // cell
            place = (..., slice(top, top + side), slice(left, left + side))
            total[place] += each
            count[place] += 1
        return total / count
