"""What a model expects of an image, held against one."""

import numpy as np
from numpy.typing import NDArray

from src_training.data.preprocess import Mask, find_field_of_view
from src_training.inference.model import ModelCard

_DISC = 0.9
"""Overlap (IoU) with a cropped disc above which a field of view counts as one."""


def doubts(card: ModelCard, image: NDArray[np.generic]) -> list[str]:
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
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[-1] not in (1, 3, 4)):
        return [
            f"This model segments single images (H, W) or (H, W, C); "
            f"this one has shape {image.shape}."
        ]
    pixels = image[..., :3] if image.ndim == 3 else image[..., None]
    if not np.isfinite(pixels).all():
        return ["This image has values that are NaN or infinite."]
    if pixels.min() == pixels.max():
        return [f"Every pixel of this image is {pixels.flat[0]}; there is nothing to segment."]
    if card.preprocessing.kind == "fundus":
        return _fundus(card.preprocessing.diameter, pixels)
    return _channels(card.preprocessing.channels, pixels) + _scale(card.patch, pixels.shape)


def disc_likeness(fov: Mask) -> float:
    """How much a field of view (H, W) is a disc, 0 to 1.

    IoU with the disc as wide, or as high, as the field of view, cut at its
    bounding box as cameras cut it.
    """
    rows, columns = np.flatnonzero(fov.any(1)), np.flatnonzero(fov.any(0))
    part = fov[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = part.shape
    y, x = np.ogrid[:height, :width]
    radius = max(height, width) / 2
    disc = np.hypot(y - (height - 1) / 2, x - (width - 1) / 2) <= radius
    return float((disc & part).sum() / (disc | part).sum())


def _fundus(diameter: int, pixels: NDArray[np.generic]) -> list[str]:
    found = []
    fov = find_field_of_view(pixels)
    if fov.all() or disc_likeness(fov) < _DISC:
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


def _channels(channels: int, pixels: NDArray[np.generic]) -> list[str]:
    if channels == 1 and pixels.shape[-1] == 3:
        return ["This model was trained on grey images; the colours of this one are averaged."]
    if channels == 3 and pixels.shape[-1] == 1:
        return ["This model was trained on colour images; this one is grey."]
    return []


def _scale(patch: int, shape: tuple[int, ...]) -> list[str]:
    side = max(shape[:2])
    if patch / 2 <= side <= 4 * patch:
        return []
    return [
        f"This image is {shape[1]} x {shape[0]} pixels; the model was trained on patches of "
        f"{patch} x {patch}, so things may appear at a size it has not seen."
    ]
