"""Recognize images that are masks, and convert them to labels."""

import re
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_msankd.planes import array_of
from src_training.errors import InputError

if TYPE_CHECKING:
    from napari.layers import Layer

    from src_training.io.volumes.base import Volume

_SAMPLED = 50_000
"""Number of pixels that `is_mask_like` looks at."""

_FEW = 16
"""Number of labels that an image may have to pass as a mask without a name that says so."""
_HIGHEST_LABEL = 65_535
_MOST_LABELS = 256

_LABELS = re.compile(r"(?<![a-z])(segmentation|seg|labels?|masks?|lesions?|gt)(?![a-z])")
"""Words in names of label files, in lower case."""


def is_mask_like(layer: "Layer") -> bool:
    """Whether an image layer looks like a mask, or was made by this plugin.

    A mask has exactly two values, or few small whole numbers, in a sample of its pixels.
    Only NumPy arrays are sampled; lazy arrays would have to be read from the disk.
    """
    if "msankd" in layer.metadata:
        return True
    data = array_of(layer)
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


def mask_values(
    pixels: Any, name: str, rgb: bool = False
) -> tuple[NDArray[np.integer], tuple[str, ...]]:
    """Convert the pixels of a mask to labels, with the rules of the training.

    Parameters
    ----------
    pixels
        (..., Y, X), or (..., Y, X, C) if `rgb`. Two values become labels 0 and 1,
        also with noise or grey edges; other whole numbers are unchanged.
    name
        Name of the layer, for errors.
    rgb
        Whether the last axis is color.

    Returns
    -------
    ndarray
        The labels.
    tuple of str
        Sentences about a conversion that is not obvious.

    Raises
    ------
    InputError
        If the pixels are not a mask.
    """
    from src_training.data.classes import StoredMask, read_classes
    from src_training.io.masks import MaskValues, one_channel

    layer, part = f"Image layer {name!r}", ""
    values = np.asarray(pixels)
    if values.size == 0:
        raise InputError(f"{layer} is empty; expected a mask")
    if rgb:
        values, part = one_channel(values, layer)
    if values.dtype.kind == "f" and bool((values == np.rint(values)).all()):
        values = values.astype(np.int64)
    stored = MaskValues.of(values, part=part)
    low, high = stored.values[0], stored.values[-1]
    if low == high and low != 0:
        raise InputError(f"{layer} holds the value {low:g} only; expected a mask of two or more")
    planes = values.reshape(-1, *values.shape[-2:])
    reading = read_classes([StoredMask(layer, stored, lambda: planes)])
    for sentence in reading.problems.values():
        raise InputError(sentence)
    threshold = reading.classes.threshold
    notes = reading.notes if threshold is not None or part else ()
    if threshold is not None or len(stored.values) <= 2:
        return reading.classes.indices(values), notes
    if low < 0 or high > _HIGHEST_LABEL:
        raise InputError(
            f"{layer} holds {low:g} to {high:g}; expected labels from 0 to {_HIGHEST_LABEL}"
        )
    return values.astype(np.uint8 if high <= 255 else np.uint16), notes


def volume_labels(volume: "Volume") -> NDArray[np.integer] | None:
    """The labels (Z, Y, X) of a volume, in memory; None if it is a scan.

    A volume has labels if its header says so, if its name (``liver_seg``) or folder
    (``masks``, ``labelsTr``) does, or if its voxels are few whole numbers. For most scans
    only the middle slice is read.
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
