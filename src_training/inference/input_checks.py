"""What a model expects of an image, held against one."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from src_training.data.preprocessing import ScaledPreprocessing
from src_training.data.preprocessing.field_of_view import find_field_of_view
from src_training.data.preprocessing.geometry import Mask
from src_training.inference.model_card import ModelCard

ROUND = 0.03
"""Deviation from a circle up to which a field of view counts as a disc."""

FAR = 2.0
"""Ratio of two spacings beyond which things look larger or smaller than in training."""

_FEWEST = 20
"""Rim pixels below which there is no telling a circle."""


def input_warnings(card: ModelCard, image: NDArray[np.generic]) -> list[str]:
    """Why this image may not suit this model, in plain words.

    Parameters
    ----------
    card
        Of the model.
    image
        (H, W) or (H, W, C).

    Returns
    -------
    list of str
        One sentence each; empty if nothing was found.
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
    if not np.isfinite(pixels).all():
        return ["This image has values that are NaN or infinite."]
    if pixels.min() == pixels.max():
        return [f"Every pixel of this image is {pixels.flat[0]}; there is nothing to segment."]
    if how.kind == "fundus":
        return _fundus(how.diameter, pixels)
    found = _window(how.window, pixels) if how.kind == "window" else []
    return found + _channels(how, pixels) + _scale(card.patch, how.grid_of(pixels.shape[:2]))


def spacing_warnings(card: ModelCard, spacing: tuple[float, float, float]) -> list[str]:
    """Why volumes of this spacing may not suit this model, in plain words.

    Parameters
    ----------
    card
        Of the model; one that was not trained on volumes has nothing to say.
    spacing
        From slice to slice, row to row and column to column, mm.
    """
    if card.spacing is None:
        return []
    # A network that sees one slice at a time does not know how far the next one is.
    first = 1 if card.preprocessing.neighbours == 1 else 0
    pairs = list(zip(spacing, card.spacing, strict=True))[first:]
    if all(1 / FAR <= here / there <= FAR for here, there in pairs):
        return []
    here, there = (" x ".join(f"{mm:.3g}" for mm in side) for side in (spacing, card.spacing))
    return [
        f"This model was trained on voxels of {there} mm (slice, row, column); these are "
        f"{here} mm, so things appear at a size it has not seen."
    ]


def circularity_rmse(fov: Mask) -> float:
    """How far the rim of a field of view (H, W) is from a circle.

    Root mean square distance to the circle fitted to it (Kåsa, 1976), per
    radius: below 0.02 for fundus cameras, above 0.045 for bodies in CT and
    MR. Straight cuts along the bounding box are left out, as cameras make
    them; infinite if hardly any rim is left.
    """
    rows, columns = np.nonzero(fov & ~ndimage.binary_erosion(fov, border_value=1))
    if rows.size == 0:
        return float("inf")
    round_part = _inside(rows) & _inside(columns)
    y, x = rows[round_part].astype(np.float64), columns[round_part].astype(np.float64)
    if x.size < _FEWEST:
        return float("inf")
    design = np.stack([x, y, np.ones_like(x)], axis=1)
    a, b, c = np.linalg.lstsq(design, x**2 + y**2, rcond=None)[0]
    radius = float(np.sqrt(max(c + (a**2 + b**2) / 4, 1e-12)))
    distances = np.hypot(x - a / 2, y - b / 2) - radius
    return float(np.sqrt((distances**2).mean())) / radius


def _inside(positions: NDArray[np.intp]) -> Mask:
    return np.asarray((positions > positions.min() + 2) & (positions < positions.max() - 2))


def _fundus(diameter: int, pixels: NDArray[np.generic]) -> list[str]:
    found = []
    fov = find_field_of_view(pixels)
    if circularity_rmse(fov) > ROUND:
        found.append(
            "This model was trained on fundus photographs; this image shows no bright disc "
            "in a dark frame."
        )
    elif pixels.shape[-1] == 3 and pixels[fov, 0].mean() < pixels[fov, 1].mean() - 1e-6:
        found.append(
            "This model was trained on colour fundus photographs, which are reddish; "
            "this image is not."
        )
    across = int(max(np.ptp(np.flatnonzero(fov.any(1))), np.ptp(np.flatnonzero(fov.any(0))))) + 1
    if across < diameter / 2:
        found.append(
            f"The field of view is {across} pixels across; the model works at {diameter}, "
            "so fine structures may be missed."
        )
    return found


def _window(window: tuple[float, float], pixels: NDArray[np.generic]) -> list[str]:
    """Whether HU can be in an image whose values are these."""
    low, high = window
    least, most = float(pixels.min()), float(pixels.max())
    width = high - low
    covers = least <= low + width / 20 and most >= low + width / 2
    # No body without air: where all is far above the window but nothing below 0, air is 0.
    shifted = least >= 0 and most > high + width
    if covers and not shifted:
        return []
    return [
        f"This model reads HU in {low:g}\N{HORIZONTAL ELLIPSIS}{high:g}; this image has "
        f"{least:g}\N{HORIZONTAL ELLIPSIS}{most:g}, which may be no HU."
    ]


def _channels(how: ScaledPreprocessing, pixels: NDArray[np.generic]) -> list[str]:
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


def _scale(patch: int, shape: tuple[int, int]) -> list[str]:
    side = max(shape)
    if patch / 2 <= side <= 4 * patch:
        return []
    return [
        f"This image is {shape[0]} x {shape[1]} pixels; the model was trained on patches of "
        f"{patch} x {patch}, so things may appear at a size it has not seen."
    ]
