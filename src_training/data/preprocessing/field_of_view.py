"""Detection of the field of view of a fundus photograph, a bright disc in a dark frame."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage

from src_training.data.preprocessing.geometry import Float, Mask
from src_training.errors import InputError

_SEARCHED_SIDE = 1024
"""Longest side for the search of a field of view, pixels; larger images are downsampled."""

_SIGMA = 2.0
"""Standard deviation of the smoothing, pixels."""

_BLOCK = 16
"""Side of the blocks of a downsampled image in which the rim is refined, pixels."""

_ROUNDING = 1e-9
"""Relative tolerance for equal variances."""


def find_field_of_view(pixels: NDArray[np.generic]) -> Mask:
    """Find the bright disc of a fundus photograph.

    It is the largest connected component, with holes filled, of the smoothed
    brightest channel above a threshold after Otsu. Without a dark frame it is the
    whole image. Images above 1024 pixels are searched at lower resolution; then the
    rim is refined at full resolution.

    Parameters
    ----------
    pixels
        (H, W) or (H, W, C).

    Returns
    -------
    ndarray
        (H, W) bool, at least one pixel true.

    Examples
    --------
    >>> import numpy as np
    >>> row, column = np.mgrid[:200, :200] - 99.5
    >>> disc = np.hypot(row, column) < 90
    >>> found = find_field_of_view(np.where(disc, 180, 4))
    >>> bool((found & disc).sum() / (found | disc).sum() > 0.9)
    True
    >>> bool(find_field_of_view(np.full((200, 200), 180)).all())
    True
    """
    brightest = _brightest(pixels)
    factor = math.ceil(max(brightest.shape) / _SEARCHED_SIDE)
    if factor == 1:
        disc, _ = _disc(ndimage.gaussian_filter(brightest, _SIGMA))
        return np.ones(brightest.shape, bool) if disc is None else disc
    # ceil_mode includes incomplete windows at the end.
    means = F.avg_pool2d(torch.from_numpy(brightest)[None, None], factor, ceil_mode=True)
    # Average pooling smooths, too; subtract its variance.
    sigma = math.sqrt(max(0, _SIGMA**2 - (factor**2 - 1) / 12)) / factor
    disc, threshold = _disc(ndimage.gaussian_filter(means[0, 0].numpy(), sigma))
    if disc is None:
        return np.ones(brightest.shape, bool)
    return _refined(disc, brightest, threshold, factor)


def _refined(disc: Mask, brightest: Float, threshold: float, factor: int) -> Mask:
    """Upsample a disc by `factor`, and threshold the full image again around its rim."""
    height, width = brightest.shape
    inner, outer = erode(disc, 2), ~erode(~disc, 2)
    refined = _enlarged(disc, factor)[:height, :width].copy()
    step, reach = _BLOCK * factor, math.ceil(4 * _SIGMA)
    squares = np.pad(outer & ~inner, [(0, -side % _BLOCK) for side in disc.shape])
    rows, columns = (side // _BLOCK for side in squares.shape)
    rim = squares.reshape(rows, _BLOCK, columns, _BLOCK).any((1, 3))
    for top, left in np.argwhere(rim) * step:
        small = tuple(slice(start // factor, start // factor + _BLOCK) for start in (top, left))
        block = slice(top, min(top + step, height)), slice(left, min(left + step, width))
        margins = [min(part.start, reach) for part in block]
        around = tuple(slice(max(0, part.start - reach), part.stop + reach) for part in block)
        smooth = ndimage.gaussian_filter(brightest[around], _SIGMA)
        sides = [part.stop - part.start for part in block]
        cut = tuple(slice(m, m + side) for m, side in zip(margins, sides, strict=True))
        within, near = (
            _enlarged(mask[small], factor)[: sides[0], : sides[1]] for mask in (inner, outer)
        )
        refined[block] = ((smooth[cut] > threshold) & near) | within
    return refined


def _enlarged(mask: Mask, factor: int) -> Mask:
    return mask.repeat(factor, 1).repeat(factor, 0)


def _brightest(pixels: NDArray[np.generic]) -> Float:
    """Maximum over the channels, (H, W)."""
    if pixels.ndim == 2:
        return pixels.astype(np.float32)
    brightest = pixels[..., 0]
    for channel in range(1, pixels.shape[-1]):
        brightest = np.maximum(brightest, pixels[..., channel])
    return np.asarray(brightest, np.float32)


def _disc(smooth: Float) -> tuple[Mask | None, float]:
    """Bright disc of a smoothed image (H, W), or None without a dark frame, and the threshold."""
    lowest = float(smooth.min())
    if smooth.max() <= lowest:
        return None, lowest
    # The frame is much darker than the fundus. A fraction of Otsu's threshold includes
    # the shadowed rim.
    threshold = 0.35 * (_otsu(smooth) - lowest) + lowest
    bright = smooth > threshold
    # The corners belong to the dark frame; only one of them may be bright, by a caption.
    corners = bright[[0, 0, -1, -1], [0, -1, 0, -1]]
    components, count = ndimage.label(bright)
    if count == 0 or corners.sum() > 1:
        return None, threshold
    sizes = np.bincount(components.ravel())[1:]
    disc = fill_holes(components == 1 + int(sizes.argmax()))
    return (disc if disc.mean() > 0.2 else None), threshold


def fill_holes(mask: Mask) -> Mask:
    """Fill the holes of a mask (H, W), three times as fast as `ndimage.binary_fill_holes`.

    >>> fill_holes(np.array([[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 1, 1]], bool)).astype(int)
    array([[1, 1, 1, 0],
           [1, 1, 1, 0],
           [1, 1, 1, 1]])
    """
    outside, count = ndimage.label(~mask)
    hole = np.ones(count + 1, bool)
    for edge in (outside[0], outside[-1], outside[:, 0], outside[:, -1]):
        hole[edge] = False
    hole[0] = True  # the mask itself
    return hole[outside]


def _otsu(values: Float) -> float:
    """Otsu's threshold; the mean of equally good thresholds, as between two grey values.

    scikit-image returns the lowest of them, which includes a blurred edge of the frame.
    """
    pixels, edges = np.histogram(values, 256)
    centres = (edges[:-1] + edges[1:]) / 2
    below, above = np.cumsum(pixels)[:-1], np.cumsum(pixels[::-1])[-2::-1]
    sums = np.cumsum(pixels * centres)
    apart = (sums[-1] - sums[:-1]) / above - sums[:-1] / below
    variance = below * above * apart**2
    return float(centres[:-1][variance >= (1 - _ROUNDING) * variance.max()].mean())


def erode(mask: Mask, times: int = 1) -> Mask:
    """Erode a mask (H, W); pixels beyond the image count as true.

    >>> erode(np.array([[True, True, True, False]])).tolist()
    [[True, True, False, False]]
    """
    for _ in range(times):
        smaller = mask.copy()
        smaller[1:] &= mask[:-1]
        smaller[:-1] &= mask[1:]
        smaller[:, 1:] &= mask[:, :-1]
        smaller[:, :-1] &= mask[:, 1:]
        mask = smaller
    return mask


def bounding_box(mask: Mask) -> tuple[int, int, int, int]:
    """Top, left, bottom and right of the true pixels; bottom and right are exclusive.

    Raises
    ------
    InputError
        If no pixel of the mask (H, W) is true.

    Examples
    --------
    >>> import numpy as np
    >>> bounding_box(np.array([[False, False, False], [False, True, True]]))
    (1, 1, 2, 3)
    """
    if not mask.any():
        raise InputError(
            f"the field of view of {mask.shape[1]} × {mask.shape[0]} px (w × h) is empty; "
            "expected at least one pixel of image"
        )
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def extend_rim(image: Float, fov: Mask) -> Float:
    """Replace pixels outside a field of view by the nearest pixel inside.

    This avoids an artificial edge in CLAHE and in the network's input. The
    outermost 3 pixels of the field of view, which the rim darkens, are replaced, too.

    Parameters
    ----------
    image, fov
        (H, W) each; `fov` has at least one true pixel.
    """
    if fov.all():
        return image
    inner = erode(fov, 3)
    source = inner if inner.any() else fov
    nearest = ndimage.distance_transform_edt(~source, return_distances=False, return_indices=True)
    return np.asarray(np.where(source, image, image[tuple(nearest)]), np.float32)
