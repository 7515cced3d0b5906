"""Checks of whether an image is suitable for a model: intensities, channels, size, spacing."""

import math

import numpy as np
from numpy.typing import NDArray

from src_training.data.preprocessing import ScaledPreprocessing
from src_training.data.preprocessing.field_of_view import (
    bounding_box,
    erode,
    find_field_of_view,
)
from src_training.data.preprocessing.geometry import Mask
from src_training.errors import InputError
from src_training.inference.model_card import ModelCard
from src_training.io.volumes.base import Volume

MAX_DISC_RMSE = 0.03
"""Largest `circularity_rmse` of a field of view that counts as a disc."""

MAX_SPACING_RATIO = 2.0
"""Largest ratio of an image's spacing to that of training that causes no warning."""

_CHECKED_SIDE = 512
"""Maximum side in pixels at which the field of view and its colour are checked."""

_MIN_RIM_PIXELS = 20
"""Minimum number of rim pixels for fitting a circle."""


def input_warnings(
    card: ModelCard, image: NDArray[np.generic], fov: Mask | None = None
) -> list[str]:
    """Return reasons why an image may be unsuitable for a model.

    Parameters
    ----------
    card
        Card of the model.
    image
        (H, W) or (H, W, C).
    fov
        (H, W) bool field of view; found in a fundus photograph if None.

    Returns
    -------
    list of str
        One sentence for each reason.
    """
    how = card.preprocessing
    known = (1, 3, 4) if how.neighbours == 1 else (1, how.neighbours)
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[-1] not in known):
        return [
            f"This model segments single images (H, W) or (H, W, C); "
            f"this one has shape {image.shape}."
        ]
    pixels = image if image.ndim == 3 else image[..., None]
    if how.neighbours == 1:
        pixels = pixels[..., :3]
    if pixels.dtype.kind not in "biu" and not np.isfinite(pixels).all():
        return ["This image has values that are NaN or infinite."]
    if pixels.min() == pixels.max():
        return [f"Every pixel of this image is {pixels.flat[0]}; there is nothing to segment."]
    if how.kind == "fundus":
        return _fundus_warnings(how.diameter, pixels, fov)
    size = how.grid_of(pixels.shape[:2])
    window = _window_warnings(how.window, pixels) if how.kind == "window" else []
    return window + _channel_warnings(how, pixels) + _size_warnings(card.patch, size)


def require_flips(card: ModelCard) -> None:
    """Raise InputError if a model was trained without flips, as left and right differ."""
    if card.augmentation is not None and not card.augmentation.flips:
        raise InputError(
            f"{card.name} was trained without flips, because left and right differ in its images; "
            "expected no averaging over flips"
        )


def volume_warnings(card: ModelCard, volume: Volume) -> list[str]:
    """`input_warnings` of the middle slice of a volume, and `spacing_warnings`."""
    middle = np.asarray(volume.voxels[len(volume.voxels) // 2])
    return [*input_warnings(card, middle), *spacing_warnings(card, volume.spacing)]


def spacing_warnings(card: ModelCard, spacing: tuple[float, float, float] | None) -> list[str]:
    """Return reasons why volumes of a spacing may be unsuitable for a model.

    Parameters
    ----------
    card
        Card of the model; nothing is checked if it has no spacing.
    spacing
        Voxel size (slice, row, column) in mm; nothing is checked if it is None.
    """
    if card.spacing is None or spacing is None:
        return []
    # The distance between slices is irrelevant to a network of single slices.
    first = 1 if card.preprocessing.neighbours == 1 else 0
    ratios = [mm / trained for mm, trained in zip(spacing, card.spacing, strict=True)][first:]
    if all(1 / MAX_SPACING_RATIO <= ratio <= MAX_SPACING_RATIO for ratio in ratios):
        return []
    own, trained = (" × ".join(f"{mm:.3g}" for mm in side) for side in (spacing, card.spacing))
    return [
        f"This model was trained on voxels of {trained} mm (slice, row, column); these are "
        f"{own} mm, so things appear at a size it has not seen."
    ]


def circularity_rmse(fov: Mask) -> float:
    """Deviation of the rim of a field of view (H, W) from a circle.

    This is the root mean square distance to a fitted circle (Kåsa, 1976), divided
    by its radius: below 0.02 for fundus cameras, above 0.045 for bodies in CT
    and MR. Rims along the bounding box do not count, because cameras may crop the disc there.
    Infinite if too few rim pixels remain.
    """
    rows, columns = np.nonzero(fov & ~erode(fov))
    if rows.size == 0:
        return float("inf")
    round_rim = _off_border(rows) & _off_border(columns)
    y, x = rows[round_rim].astype(np.float64), columns[round_rim].astype(np.float64)
    if x.size < _MIN_RIM_PIXELS:
        return float("inf")
    design = np.stack([x, y, np.ones_like(x)], axis=1)
    a, b, c = np.linalg.lstsq(design, x**2 + y**2, rcond=None)[0]
    radius = float(np.sqrt(max(c + (a**2 + b**2) / 4, 1e-12)))
    distances = np.hypot(x - a / 2, y - b / 2) - radius
    return float(np.sqrt((distances**2).mean())) / radius


def _off_border(positions: NDArray[np.intp]) -> Mask:
    return np.asarray((positions > positions.min() + 2) & (positions < positions.max() - 2))


def _fundus_warnings(diameter: int, pixels: NDArray[np.generic], fov: Mask | None) -> list[str]:
    warnings = []
    whole = find_field_of_view(pixels) if fov is None else fov.astype(bool)
    # The shape of the rim and the colour can be checked at a low resolution.
    step = math.ceil(max(whole.shape) / _CHECKED_SIDE)
    fov, pixels = whole[::step, ::step], pixels[::step, ::step]
    if circularity_rmse(fov) > MAX_DISC_RMSE:
        warnings.append(
            "This model was trained on fundus photographs; this image shows no bright disc "
            "in a dark frame."
        )
    elif pixels.shape[-1] == 3 and pixels[fov, 0].mean() < pixels[fov, 1].mean() - 1e-6:
        warnings.append(
            "This model was trained on colour fundus photographs, which are reddish; "
            "this image is not."
        )
    top, left, bottom, right = bounding_box(whole)
    across = max(bottom - top, right - left)
    if across < diameter / 2:
        warnings.append(
            f"The field of view is {across} pixels across; the model works at {diameter}, "
            "so fine structures may be missed."
        )
    return warnings


def _window_warnings(window: tuple[float, float], pixels: NDArray[np.generic]) -> list[str]:
    """A warning if the values of an image are unlikely to be HU in the range of the window."""
    low, high = window
    least, most = float(pixels.min()), float(pixels.max())
    width = high - low
    covers = least <= low + width / 20 and most >= low + width / 2
    # Every CT contains air, whose HU are negative. If values extend far above the window but not
    # below 0, they are probably shifted so that air is 0.
    shifted = least >= 0 and most > high + width
    if covers and not shifted:
        return []
    return [
        f"This model expects Hounsfield units (HU) from {low:g} to {high:g}; this image has values "
        f"from {least:g} to {most:g}, which may not be HU."
    ]


def _channel_warnings(how: ScaledPreprocessing, pixels: NDArray[np.generic]) -> list[str]:
    channels = how.channels
    if how.neighbours > pixels.shape[-1]:
        return [
            f"This model reads {how.neighbours} neighbouring slices; this image is one, "
            "which is repeated."
        ]
    if how.neighbours > 1:
        return []
    if channels == 1 and pixels.shape[-1] == 3:
        return ["This model was trained on grey images; the colours of this one are averaged."]
    if channels == 3 and pixels.shape[-1] == 1:
        return ["This model was trained on colour images; this one is grey."]
    return []


def _size_warnings(patch: int, shape: tuple[int, int]) -> list[str]:
    side = max(shape)
    if patch / 2 <= side <= 4 * patch:
        return []
    return [
        f"This image is {shape[1]} × {shape[0]} px (w × h) at the model's resolution; it was "
        f"trained on patches of {patch} × {patch} px, so things may appear at a size it has not "
        "seen."
    ]
