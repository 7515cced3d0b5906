"""How well labels of a whole volume agree with its mask, in millimetres.

Where a metric is not defined it is NaN: all but Dice and VOE where a class is
in neither labels nor mask (Dice is then 1, VOE 0), the distances where it is
in only one of them, RVD where the mask has none of it. With more than two classes
each metric is the mean over the foreground classes, each against the rest,
and each class has its own ``METRIC_NAME`` beside it.
"""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from src_training.data.preprocessing import Mask
from src_training.errors import InputError

VOLUME_METRICS = ("dice", "voe", "rvd", "hd95", "assd")
"""The metrics of `score_volume`."""

Labels = NDArray[np.integer]
Spacing = tuple[float, float, float]


def score_volume(
    labels: Labels, mask: Labels, spacing: Spacing, classes: Sequence[str]
) -> dict[str, float]:
    """Score the labels of one volume.

    Parameters
    ----------
    labels, mask
        (Z, Y, X) class indices below ``len(classes)``.
    spacing
        Millimetres from slice to slice, row to row, column to column.
    classes
        Names, the background first.

    Returns
    -------
    dict of str to float
        ``dice``; ``voe``, the volumetric overlap error, 1 - intersection over
        union; ``rvd``, the relative volume difference, signed (positive: too
        much was found); ``hd95``, the larger of the two 95th percentiles of
        the surface distances, and ``assd``, the average symmetric surface
        distance, both in mm and by MONAI (`compute_hausdorff_distance`,
        `compute_average_surface_distance`). As in the SLIVER07 challenge
        (Heimann et al. 2009), but for HD95 in the place of the maximum.

    Raises
    ------
    InputError
        If the shapes differ or a spacing is not positive.
    """
    if labels.shape != mask.shape or labels.ndim != 3:
        raise InputError(
            f"the labels have shape {labels.shape} and the mask {mask.shape}; "
            "expected two volumes (Z, Y, X) of one shape"
        )
    if min(spacing) <= 0:
        raise InputError(f"the spacing is {spacing} mm; expected above 0 along every axis")
    each = [_of_class(labels == k, mask == k, spacing) for k in range(1, len(classes))]
    found = {name: _mean([scores[name] for scores in each]) for name in VOLUME_METRICS}
    if len(each) > 1:
        for name, scores in zip(classes[1:], each, strict=True):
            found |= {f"{metric}_{name}": value for metric, value in scores.items()}
    return found


def _of_class(found: Mask, truth: Mask, spacing: Spacing) -> dict[str, float]:
    both, n_found, n_truth = (int(np.count_nonzero(part)) for part in (found & truth, found, truth))
    either = n_found + n_truth - both
    hd95 = assd = float("nan")
    if n_found and n_truth:
        hd95, assd = _distances(found, truth, spacing)
    return {
        "dice": 2 * both / (n_found + n_truth) if either else 1.0,
        "voe": 1 - both / either if either else 0.0,
        "rvd": (n_found - n_truth) / n_truth if n_truth else float("nan"),
        "hd95": hd95,
        "assd": assd,
    }


def _distances(found: Mask, truth: Mask, spacing: Spacing) -> tuple[float, float]:
    from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance

    box = _around(found | truth)
    y_pred, y = (
        torch.from_numpy(np.ascontiguousarray(mask[box]))[None, None] for mask in (found, truth)
    )
    common = {"include_background": True, "spacing": list(spacing)}
    with warnings.catch_warnings():
        # MONAI 1.6 calls its own deprecated argument.
        warnings.filterwarnings("ignore", ".*always_return_as_numpy", FutureWarning)
        hd95 = compute_hausdorff_distance(y_pred, y, percentile=95, **common)
        assd = compute_average_surface_distance(y_pred, y, symmetric=True, **common)
    return float(hd95), float(assd)


def _around(mask: Mask) -> tuple[slice, ...]:
    """The bounding box of a mask and a voxel around it, inside the volume."""
    box = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        places = np.flatnonzero(mask.any(axis=others))
        box.append(slice(max(0, int(places[0]) - 1), int(places[-1]) + 2))
    return tuple(box)


def _mean(values: list[float]) -> float:
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else float("nan")
