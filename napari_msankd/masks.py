"""Whether an image is a mask, and the labels that it stands for."""

import re
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from src_training.errors import InputError

if TYPE_CHECKING:
    from napari.layers import Layer

    from src_training.io.volumes.base import Volume

_SAMPLED = 50_000
"""How many pixels tell whether an image looks like a mask."""

_FEW = 16
_HIGHEST_LABEL = 65_535
_MOST_LABELS = 256

_LABELS = re.compile(r"(?<![a-z])(segmentation|seg|labels?|masks?|lesions?|gt)(?![a-z])")
"""Words in the names of label files, in lower case."""


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


def volume_labels(volume: "Volume") -> NDArray[np.integer] | None:
    """The labels (Z, Y, X) that a volume holds, in memory; None if it is a scan.

    The file says so, or its name (``liver_seg``) or folder (``masks``, ``labelsTr``) does, or
    its voxels are few whole numbers. The voxels of labels are all read, those of a scan
    only as far as they tell.
    """
    folder = volume.path.parent.name.lower()
    named = _LABELS.search(volume.path.name.lower()) or folder.startswith(("labels", "masks"))
    most = _MOST_LABELS if volume.labels or named else _FEW
    if most == _FEW and (volume.voxels.dtype.kind not in "bui" or folder.startswith("images")):
        return None
    middle = np.unique(np.asarray(volume.voxels[volume.shape[0] // 2]))
    if len(middle) > most or middle[0] < 0:
        return None
    voxels = np.asarray(volume.voxels)
    values = np.unique(voxels)
    whole = bool((values == np.rint(values)).all())
    if not whole or not 1 < len(values) <= most or values[0] < 0 or values[-1] > _HIGHEST_LABEL:
        return None
    return voxels.astype(np.uint8 if values[-1] <= 255 else np.uint16)
