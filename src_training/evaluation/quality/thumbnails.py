"""Thumbnails of images with the outlines of their labels."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from src_training.io.atomic import write_atomic
from src_training.io.decoders.base import NARROWEST
from src_training.io.images import read_image
from src_training.io.volumes.registry import format_of, open_volume

_SIDE = 192
_OUTLINE = (0, 158, 115)


def write_thumbnail(image: Path, labels: Path, index: int, path: Path) -> None:
    """Write a JPEG of an image, or of a slice of a stack or volume, with outlined labels.

    Parameters
    ----------
    image, labels
        Files of the same shape.
    index
        Index of the slice.
    path
        ``.jpg`` file to write.
    """
    pixels = thumbnail(_plane(image, index), _plane(labels, index))
    write_atomic(path, lambda temporary: Image.fromarray(pixels).save(temporary, quality=80))


def thumbnail(
    image: NDArray[np.generic], labels: NDArray[np.generic], side: int = _SIDE
) -> NDArray[np.uint8]:
    """Return an RGB thumbnail (h, w, 3) of at most `side` pixels with labels (H, W) outlined."""
    pixels = np.nan_to_num(np.asarray(image, np.float32))
    channels = pixels[..., None] if pixels.ndim == 2 else pixels[..., :3]
    channels = channels if channels.shape[-1] == 3 else channels[..., :1].repeat(3, -1)
    low, high = np.percentile(channels, (0.5, 99.5))
    rgb = ((channels - low) / max(high - low, 1e-9)).clip(0, 1) * 255
    scale = side / max(rgb.shape[:2])
    size = tuple(max(1, round(length * min(scale, 1))) for length in reversed(rgb.shape[:2]))
    small = np.array(Image.fromarray(rgb.astype(np.uint8)).resize(size, Image.Resampling.BOX))
    foreground = (np.asarray(labels) != 0).astype(np.uint8) * 255
    covered = np.asarray(Image.fromarray(foreground).resize(size, Image.Resampling.BOX)) > 127
    small[covered & ~ndimage.binary_erosion(covered)] = _OUTLINE
    return small


def _plane(path: Path, index: int) -> NDArray[np.generic]:
    if format_of(path) is not None:
        return np.asarray(open_volume(path).voxels[index])
    image = read_image(path)
    planar = image.ndim == 2 or (image.ndim == 3 and image.shape[-1] < NARROWEST)
    return image if planar else np.asarray(image[index])
