"""Prepared images, and their position in the original image."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

Float = NDArray[np.float32]
Mask = NDArray[np.bool_]

PADDING = 16
"""Width of the zero padding around a prepared image for segmentation, pixels."""


@dataclass(frozen=True)
class Geometry:
    """Position of a prepared image in its original.

    Attributes
    ----------
    original
        Height and width of the original image, pixels.
    box
        Top, left, bottom, right of the prepared part, original pixels.
    prepared
        Height and width of the prepared image, pixels.
    """

    original: tuple[int, int]
    box: tuple[int, int, int, int]
    prepared: tuple[int, int]

    def to_prepared(self, mask: NDArray[np.integer]) -> NDArray[np.integer]:
        """Resample labels (H, W) of the original to the prepared grid, nearest neighbour.

        Examples
        --------
        >>> import numpy as np
        >>> geometry = Geometry(original=(2, 4), box=(0, 2, 2, 4), prepared=(1, 1))
        >>> geometry.to_prepared(np.array([[0, 0, 3, 3], [0, 0, 3, 3]]))
        array([[3]])
        """
        top, left, bottom, right = self.box
        part = torch.from_numpy(np.ascontiguousarray(mask[top:bottom, left:right]).astype(np.int32))
        resized = F.interpolate(part[None, None].float(), self.prepared, mode="nearest-exact")
        return resized[0, 0].numpy().astype(mask.dtype)

    def to_original(self, maps: Float, outside: float = 0.0, out: Float | None = None) -> Float:
        """Resample maps (K, h, w) of the prepared grid to the original grid, bilinear.

        Pixels outside the box are set to `outside`. If given, `out` is filled and returned.

        Examples
        --------
        >>> import numpy as np
        >>> geometry = Geometry(original=(1, 4), box=(0, 2, 1, 4), prepared=(1, 1))
        >>> geometry.to_original(np.ones((1, 1, 1), np.float32))
        array([[[0., 0., 1., 1.]]], dtype=float32)
        """
        top, left, bottom, right = self.box
        whole = np.empty((len(maps), *self.original), np.float32) if out is None else out
        whole[:, :top], whole[:, bottom:] = outside, outside
        whole[:, :, :left], whole[:, :, right:] = outside, outside
        whole[:, top:bottom, left:right] = resize(maps, (bottom - top, right - left))
        return whole


@dataclass(frozen=True)
class PreparedImage:
    """Input of a network.

    Attributes
    ----------
    pixels
        (C, h, w) float32, roughly in [0, 1].
    fov
        (h, w) bool, true inside the field of view.
    geometry
        Mapping to the original grid.
    mask
        (h, w) uint8 class indices; None without mask.
    """

    pixels: Float
    fov: Mask
    geometry: Geometry
    mask: NDArray[np.uint8] | None = None

    def mask_or_background(self) -> NDArray[np.uint8]:
        """The mask (h, w), or only background if there is none."""
        return np.zeros(self.fov.shape, np.uint8) if self.mask is None else self.mask

    @property
    def padded(self) -> Float:
        """The pixels with `PADDING` zeros on each side, (C, h + 2 PADDING, w + 2 PADDING).

        Training patches extend beyond the image in the same way. Without padding, a
        network mistakes the image edge for a vessel where the edge cuts the disc.
        """
        return np.pad(self.pixels, ((0, 0), (PADDING, PADDING), (PADDING, PADDING)))


def resize(maps: Float, size: tuple[int, int]) -> Float:
    """Resize (K, h, w) to (K, *size), bilinear with antialiasing."""
    if size[1] == 1 < size[0]:
        # For an output one column wide, PyTorch repeats the first row.
        return resize(maps.transpose(0, 2, 1), size[::-1]).transpose(0, 2, 1)
    tensor = torch.from_numpy(np.ascontiguousarray(maps, np.float32))[None]
    return F.interpolate(tensor, size, mode="bilinear", antialias=True)[0].numpy()
