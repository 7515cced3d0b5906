"""The field of view of a fundus photograph: the bright disc inside a dark frame."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage

from src_training.data.preprocessing.geometry import Float, Mask
from src_training.errors import InputError

_SEARCHED_SIDE = 1024
"""Longest side at which a field of view is searched, pixels; a larger image is reduced."""

_SIGMA = 2.0
"""Standard deviation of the smoothing, pixels."""

_BLOCK = 16
"""Side of the squares of a reduced image whose rim is refined together, pixels."""

_ROUNDING = 1e-9
"""Variances that differ by less than this share are equal."""


def find_field_of_view(pixels: NDArray[np.generic]) -> Mask:
    """Find the bright disc of a fundus photograph.

    Otsu's threshold on the smoothed brightest channel, the largest connected
    component, holes filled. An image without a dark frame is all field of view.
    A large image is searched at a size of at most 1024 pixels; the rim is that of full size.

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
    # The last squares may be incomplete.
    means = F.avg_pool2d(torch.from_numpy(brightest)[None, None], factor, ceil_mode=True)
    # The mean of a square smooths by itself.
    rest = math.sqrt(max(0, _SIGMA**2 - (factor**2 - 1) / 12)) / factor
    disc, threshold = _disc(ndimage.gaussian_filter(means[0, 0].numpy(), rest))
    if disc is None:
        return np.ones(brightest.shape, bool)
    return _refined(disc, brightest, threshold, factor)


def _refined(disc: Mask, brightest: Float, threshold: float, factor: int) -> Mask:
    """A disc of the size of an image from one that is `factor` times smaller: exact at its rim."""
    height, width = brightest.shape
    inner, outer = eroded(disc, 2), ~eroded(~disc, 2)
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
    """The largest channel of every pixel, (H, W)."""
    if pixels.ndim == 2:
        return pixels.astype(np.float32)
    brightest = pixels[..., 0]
    for channel in range(1, pixels.shape[-1]):
        brightest = np.maximum(brightest, pixels[..., channel])
    return np.asarray(brightest, np.float32)


def _disc(smooth: Float) -> tuple[Mask | None, float]:
    """The bright disc of a smoothed image (H, W), None without a dark frame; and its threshold."""
    lowest = float(smooth.min())
    if smooth.max() <= lowest:
        return None, lowest
    # The frame is far darker than any fundus: a fraction of Otsu's threshold
    # keeps the shadowed rim inside.
    threshold = 0.35 * (_otsu(smooth) - lowest) + lowest
    bright = smooth > threshold
    # A frame darkens the corners; a caption may light one of them.
    corners = bright[[0, 0, -1, -1], [0, -1, 0, -1]]
    components, count = ndimage.label(bright)
    if count == 0 or corners.sum() > 1:
        return None, threshold
    sizes = np.bincount(components.ravel())[1:]
    disc = ndimage.binary_fill_holes(components == 1 + int(sizes.argmax()))
    return (disc if disc.mean() > 0.2 else None), threshold


def _otsu(values: Float) -> float:
    """Otsu's threshold; the middle one where several are best, as between two single values.

    scikit-image's takes the lowest, which puts a frame's blurred edge into the field of view.
    """
    pixels, edges = np.histogram(values, 256)
    centres = (edges[:-1] + edges[1:]) / 2
    below, above = np.cumsum(pixels)[:-1], np.cumsum(pixels[::-1])[-2::-1]
    sums = np.cumsum(pixels * centres)
    apart = (sums[-1] - sums[:-1]) / above - sums[:-1] / below
    variance = below * above * apart**2
    return float(centres[:-1][variance >= (1 - _ROUNDING) * variance.max()].mean())


def eroded(mask: Mask, times: int = 1) -> Mask:
    """A mask (H, W) without its outermost pixels; what lies beyond the border counts as inside.

    >>> eroded(np.array([[True, True, True, False]])).tolist()
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
    """Top, left, bottom and right of the pixels that are true; bottom and right are exclusive.

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
    """Give the pixels outside a field of view the value of the nearest pixel inside.

    CLAHE and the network then see no false edge. The outermost 3 pixels of the
    field of view, darkened by the rim, are replaced too.

    Parameters
    ----------
    image, fov
        (H, W) each; `fov` has at least one pixel true.
    """
    if fov.all():
        return image
    inner = eroded(fov, 3)
    source = inner if inner.any() else fov
    nearest = ndimage.distance_transform_edt(~source, return_distances=False, return_indices=True)
    return np.asarray(np.where(source, image, image[tuple(nearest)]), np.float32)
