"""Whether an image is a mask, and the labels that it stands for."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from src_training.errors import InputError

if TYPE_CHECKING:
    from napari.layers import Layer

_SAMPLED = 50_000
"""How many pixels tell whether an image looks like a mask."""

_FEW = 16
_HIGHEST_LABEL = 65_535
_MOST_LABELS = 256


def is_mask_like(layer: "Layer") -> bool:
    """Whether an image layer looks like a mask, or was made by this plugin.

    Two values at most among the pixels that are looked at, or few small whole numbers. Only
    arrays in memory are looked at: others would have to be read.
    """
    if "msankd" in layer.metadata:
        return True
    data = layer.data[0] if layer.multiscale else layer.data
    if np.dtype(data.dtype) == bool:
        return True
    if not isinstance(data, np.ndarray) or data.size == 0:
        return False
    values = np.unique(data.reshape(-1)[:: max(1, data.size // _SAMPLED)])
    values = values[np.isfinite(values)]
    if len(values) == 2:
        return True
    whole = values.dtype.kind in "ui" or bool((values == values.round()).all())
    return 2 < len(values) <= _FEW and whole and values[0] >= 0 and values[-1] < _FEW


def mask_values(pixels: Any, name: str, rgb: bool = False) -> NDArray[np.integer]:
    """The labels that the pixels of a mask stand for.

    Parameters
    ----------
    pixels
        (..., Y, X), or (..., Y, X, C) where `rgb`. Of two values the larger is label 1,
        whole numbers stay as they are, and colors must be grey.
    name
        Of the layer, for the error.
    rgb
        Whether the last axis holds colors.

    Raises
    ------
    InputError
        If the pixels are no mask.
    """
    values = np.asarray(pixels)
    if values.size == 0:
        raise InputError(f"Image layer {name!r} is empty; expected a mask")
    if rgb:
        if (values[..., :3] != values[..., :1]).any():
            raise InputError(
                f"Image layer {name!r} holds colors; expected a mask, one value per pixel"
            )
        values = values[..., 0]
    low, high = values.min(), values.max()
    if low == high and low != 0:
        raise InputError(
            f"Image layer {name!r} holds the value {low:g} only; "
            "expected a mask of two values or more"
        )
    if ((values == low) | (values == high)).all():
        return (values != low).astype(np.uint8)
    whole = values.dtype.kind in "ui" or bool((values == np.rint(values)).all())
    if whole and low >= 0 and high <= _HIGHEST_LABEL:
        labels = values.astype(np.uint8 if high <= 255 else np.uint16)
        if np.count_nonzero(np.bincount(labels.reshape(-1))) <= _MOST_LABELS:
            return labels
    kind = "whole numbers" if whole else "numbers"
    raise InputError(
        f"Image layer {name!r} holds many {kind} from {low:g} to {high:g}; "
        "expected a mask: two values, or a small whole number for each class"
    )
