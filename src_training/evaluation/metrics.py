"""How well probabilities agree with a mask, for one image and pooled over many.

Everything is counted inside the field of view. Where a metric is not defined
it is NaN, and leaves the means it would enter:

* Dice, F1, surface Dice: 1 if a class is in neither prediction nor mask, 0 if
  in one of them.
* IoU and HD95 of a class: NaN if it is in neither, HD95 also if in only one.
* Sensitivity, specificity, AUC: NaN without positive or negative pixels.

With more than two classes, all but accuracy and mIoU are means over the
foreground classes, each against the rest.
"""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logit

from src_training.data.preprocessing import Float, Mask
from src_training.errors import InputError
from src_training.inference.predictor import labels_from

Labels = NDArray[np.integer]
Array = NDArray[np.float64]

POOLED = ("accuracy", "sensitivity", "specificity", "miou", "f1", "auc")
"""The metrics of `Pooled.result`."""

METRICS = ("dice", *POOLED, "hd95", "surface_dice")
"""The metrics of `score`."""

_BINS = 8192
_LOGIT = 32.0


def score(
    probabilities: Float,
    mask: Labels,
    fov: Mask | None = None,
    threshold: float = 0.5,
    *,
    spacing: tuple[float, float] = (1.0, 1.0),
    tolerance: float = 1.0,
    classes: Sequence[str] | None = None,
) -> dict[str, float]:
    """Score one image.

    Parameters
    ----------
    probabilities
        (K, H, W) float32.
    mask
        (H, W) class indices below K.
    fov
        (H, W) bool; None counts every pixel.
    threshold
        Probability from which a pixel is foreground, for two classes.
    spacing
        Height and width of a pixel; the unit of `tolerance` and of HD95.
    tolerance
        Distance up to which a boundary counts as found, for surface Dice.
    classes
        K names; with more than two classes each gets its own ``dice_NAME``.

    Returns
    -------
    dict of str to float
        `METRICS`; all but ``hd95`` from 0 to 1. ``hd95`` and ``surface_dice``
        are those of MONAI (`compute_hausdorff_distance`, percentile 95;
        `compute_surface_dice`).

    Raises
    ------
    InputError
        If shapes differ, a probability is not finite, the mask holds an
        unknown class, or the field of view is empty.
    """
    seen = _checked(probabilities, mask, fov)
    labels = labels_from(probabilities, threshold)
    table = _confusion(labels[seen], mask[seen], len(probabilities))
    per_class = _overlap(table)[1:]
    found = {"dice": float(per_class.mean())} | _from_table(table)
    found["auc"] = _mean(
        [_exact_auc(p[seen], mask[seen] == k) for k, p in _foreground(probabilities)]
    )
    found["hd95"], found["surface_dice"] = _boundaries(
        labels, mask, seen, table, spacing, tolerance
    )
    if len(probabilities) > 2:
        names = classes or [str(k) for k in range(len(probabilities))]
        found |= {f"dice_{n}": float(d) for n, d in zip(names[1:], per_class, strict=True)}
    return found


class Pooled:
    """Metrics over the pixels of many images, without keeping the pixels.

    Parameters
    ----------
    classes
        Classes including the background.

    Notes
    -----
    AUC comes from histograms of the probabilities, 8192 bins evenly spaced in
    the logit so that confident networks keep their order; pixels of one bin
    count as ties.
    """

    def __init__(self, classes: int) -> None:
        self._table = np.zeros((classes, classes), np.int64)
        self._histograms = np.zeros((classes - 1, 2, _BINS), np.int64)

    def add(
        self,
        probabilities: Float,
        mask: Labels,
        fov: Mask | None = None,
        threshold: float = 0.5,
    ) -> None:
        """Count one image; parameters and errors as in `score`."""
        seen = _checked(probabilities, mask, fov)
        labels, truth = labels_from(probabilities, threshold)[seen], mask[seen]
        self._table += _confusion(labels, truth, len(self._table))
        for k, p in _foreground(probabilities):
            for positive in (0, 1):
                chosen = p[seen][(truth == k) == bool(positive)]
                self._histograms[k - 1, positive] += _histogram(chosen)

    def result(self) -> dict[str, float]:
        """`POOLED` over everything that was added."""
        found = _from_table(self._table)
        found["auc"] = _mean([_binned_auc(*pair) for pair in self._histograms])
        return found


def _checked(probabilities: Float, mask: Labels, fov: Mask | None) -> Mask:
    """The pixels that count."""
    size = probabilities.shape[1:]
    if not np.isfinite(probabilities).all():
        raise InputError("the model gives probabilities that are NaN or infinite; expected none")
    if mask.shape != size:
        raise InputError(f"the mask has shape {mask.shape}; expected that of the image, {size}")
    if mask.min() < 0 or mask.max() >= len(probabilities):
        raise InputError(
            f"the mask holds classes {mask.min()} to {mask.max()}; "
            f"expected 0 to {len(probabilities) - 1} as the model has"
        )
    if fov is None:
        return np.ones(size, np.bool_)
    if fov.shape != size:
        raise InputError(
            f"the field of view has shape {fov.shape}; expected that of the image, {size}"
        )
    if not fov.any():
        raise InputError("the field of view is empty; expected at least one pixel to score")
    return fov.astype(np.bool_)


def _foreground(probabilities: Float) -> list[tuple[int, Float]]:
    return list(enumerate(probabilities))[1:]


def _confusion(labels: Labels, truth: Labels, classes: int) -> NDArray[np.int64]:
    """Pixels by true class (rows) and by found class (columns)."""
    index = truth.astype(np.int64) * classes + labels
    return np.bincount(index, minlength=classes**2).reshape(classes, classes)


def _overlap(table: NDArray[np.int64]) -> Array:
    """Dice of every class; 1 where a class is nowhere."""
    both, either = 2.0 * table.diagonal(), table.sum(0) + table.sum(1)
    return np.where(either > 0, both / np.maximum(either, 1), 1.0)


def _from_table(table: NDArray[np.int64]) -> dict[str, float]:
    true = table.diagonal().astype(np.float64)
    truth, found = table.sum(1), table.sum(0)
    total = table.sum()
    negative = total - truth
    return {
        "accuracy": float(_ratio(true.sum(), total)),
        "sensitivity": _mean(_ratio(true, truth)[1:]),
        "specificity": _mean(_ratio(negative - (found - true), negative)[1:]),
        "miou": _mean(_ratio(true, truth + found - true)),
        "f1": float(_overlap(table)[1:].mean()),
    }


def _ratio(part: NDArray[np.generic], whole: NDArray[np.generic]) -> Array:
    """NaN where the whole is nothing."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.true_divide(part, whole), np.float64)


def _mean(values: Sequence[float] | Array) -> float:
    """Over what is defined; NaN if nothing is."""
    defined = np.asarray(values, np.float64)
    defined = defined[~np.isnan(defined)]
    return float(defined.mean()) if defined.size else float("nan")


def _exact_auc(probabilities: Float, positive: Mask) -> float:
    from sklearn.metrics import roc_auc_score

    if positive.all() or not positive.any():
        return float("nan")
    return float(roc_auc_score(positive, probabilities))


def _histogram(probabilities: Float) -> NDArray[np.int64]:
    # Resizing may round a probability to just above 1.
    bounded = logit(np.clip(probabilities, 0, 1))
    position = np.clip(bounded, -_LOGIT, _LOGIT) / (2 * _LOGIT) + 0.5
    bins = np.minimum((position * _BINS).astype(np.int64), _BINS - 1)
    return np.bincount(bins, minlength=_BINS)


def _binned_auc(negative: NDArray[np.int64], positive: NDArray[np.int64]) -> float:
    """Chance that a positive lies above a negative, ties counting half."""
    pairs = float(negative.sum()) * float(positive.sum())
    if pairs == 0:
        return float("nan")
    below = np.cumsum(negative) - negative / 2
    return float((positive * below).sum() / pairs)


def _boundaries(
    labels: Labels,
    mask: Labels,
    seen: Mask,
    table: NDArray[np.int64],
    spacing: tuple[float, float],
    tolerance: float,
) -> tuple[float, float]:
    """HD95 and surface Dice, means over the foreground classes."""
    distances, surfaces = [], []
    for k in range(1, len(table)):
        in_mask, in_labels = table[k].sum() > 0, table[:, k].sum() > 0
        if in_mask and in_labels:
            hd95, surface = _monai((labels == k) & seen, (mask == k) & seen, spacing, tolerance)
        else:
            hd95, surface = float("nan"), float(in_mask == in_labels)
        distances.append(hd95)
        surfaces.append(surface)
    return _mean(distances), _mean(surfaces)


def _monai(
    found: Mask, truth: Mask, spacing: tuple[float, float], tolerance: float
) -> tuple[float, float]:
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice

    y_pred, y = (torch.from_numpy(mask)[None, None].float() for mask in (found, truth))
    common = {"include_background": True, "spacing": list(spacing)}
    with warnings.catch_warnings():
        # MONAI 1.6 calls its own deprecated argument.
        warnings.filterwarnings("ignore", ".*always_return_as_numpy", FutureWarning)
        hd95 = compute_hausdorff_distance(y_pred, y, percentile=95, **common)
        surface = compute_surface_dice(y_pred, y, [tolerance], **common)
    return float(hd95), float(surface)
