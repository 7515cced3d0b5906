"""Metrics of the labels of a whole volume against its mask, with distances in mm.

An undefined metric is NaN: the distances if labels or mask are
empty, RVD if the mask is empty. An empty prediction of an empty mask has Dice 1
and VOE 0. With more than two classes each metric is the mean over the
foreground classes, each against the rest, and each class also has its own
``METRIC_NAME``.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from src_training.data.preprocessing.geometry import Mask
from src_training.errors import InputError
from src_training.evaluation.metrics import dice, mean_defined
from src_training.evaluation.surfaces import (
    average_surface_distance,
    hausdorff95,
    surface_distances,
)

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
        Millimetres between slices, rows and columns.
    classes
        Names of the classes, background first.

    Returns
    -------
    dict of str to float
        ``dice``; ``voe``, the volumetric overlap error, 1 - intersection over
        union; ``rvd``, the relative volume difference, signed (positive: too
        much was predicted); ``hd95`` and ``assd`` in mm, see `hausdorff95`
        and `average_surface_distance`. As in the SLIVER07 challenge (Heimann
        et al. 2009), with HD95 in place of the maximum.

    Raises
    ------
    InputError
        If the shapes differ or a spacing is not positive.

    Examples
    --------
    >>> mask = np.zeros((4, 8, 8), np.uint8)
    >>> mask[1:3, 2:6, 2:6] = 1
    >>> scores = score_volume(np.roll(mask, 1, axis=2), mask, (2, 1, 1), ("background", "liver"))
    >>> scores["dice"], scores["rvd"], scores["hd95"]
    (0.75, 0.0, 1.0)
    """
    if labels.shape != mask.shape or labels.ndim != 3:
        raise InputError(
            f"the labels have shape {labels.shape} and the mask {mask.shape}; "
            "expected two volumes (Z, Y, X) of one shape"
        )
    if min(spacing) <= 0:
        raise InputError(f"the spacing is {spacing} mm; expected above 0 along every axis")
    by_class = [_class_scores(labels == k, mask == k, spacing) for k in range(1, len(classes))]
    scores = {name: mean_defined([each[name] for each in by_class]) for name in VOLUME_METRICS}
    if len(by_class) > 1:
        for name, each in zip(classes[1:], by_class, strict=True):
            scores |= {f"{metric}_{name}": value for metric, value in each.items()}
    return scores


def _class_scores(predicted: Mask, true: Mask, spacing: Spacing) -> dict[str, float]:
    overlap, n_predicted, n_true = (
        int(np.count_nonzero(part)) for part in (predicted & true, predicted, true)
    )
    union = n_predicted + n_true - overlap
    hd95 = assd = float("nan")
    if n_predicted and n_true:
        distances = surface_distances(predicted, true, spacing)
        hd95, assd = hausdorff95(distances), average_surface_distance(distances)
    return {
        "dice": float(dice(overlap, n_predicted, n_true)),
        "voe": 1 - overlap / union if union else 0.0,
        "rvd": (n_predicted - n_true) / n_true if n_true else float("nan"),
        "hd95": hd95,
        "assd": assd,
    }
