"""Metrics of predicted probabilities against a mask, for one image and pooled over many.

Only pixels inside the field of view count. An undefined metric is NaN, and means leave it out:

* Dice, F1, surface Dice: an empty prediction of an empty mask scores 1; if
  only one of them is empty the score is 0.
* IoU of a class: NaN if prediction and mask are empty; HD95 if either is.
* Sensitivity, specificity, AUC: NaN without positive or negative pixels.

With more than two classes, all metrics but accuracy and mIoU are means over
the foreground classes, each against the rest.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from src_training.data.preprocessing.geometry import Float, Mask
from src_training.errors import InputError
from src_training.evaluation.auc import BINS, binned_auc, bins_of, exact_auc
from src_training.evaluation.surfaces import hausdorff95, surface_dice, surface_distances
from src_training.inference.predictor import labels_from

Labels = NDArray[np.integer]
Array = NDArray[np.float64]

_PIXELS_AT_ONCE = 2**19
"""Number of pixels counted at once; these fit into a processor's cache."""

_MAX_AUC_ERROR = 1e-5
"""Largest error of a binned AUC; beyond it the exact AUC is computed."""


def dice(overlap: ArrayLike, predicted: ArrayLike, true: ArrayLike, empty: float = 1.0) -> Array:
    """Dice coefficient ``2 |A and B| / (|A| + |B|)`` from counts of pixels, in [0, 1].

    All Dice scores of this package use this function. It takes counts because
    pooled, thresholded and volumetric scores are all computed from counts; MONAI's
    `compute_dice` takes one-hot tensors, and computes in single precision.

    Parameters
    ----------
    overlap, predicted, true
        Number of pixels in both, in the prediction, and in the mask; of the same shape.
    empty
        Value if prediction and mask are empty: 1 counts a correct empty
        prediction as correct, NaN leaves it out of means.

    Returns
    -------
    ndarray
        float64 of the shape of the counts.

    Examples
    --------
    >>> dice([2, 0, 0], [4, 5, 0], [4, 3, 0])
    array([0.5, 0. , 1. ])
    """
    size = np.asarray(predicted) + np.asarray(true)
    return np.where(size > 0, 2 * np.asarray(overlap) / np.maximum(size, 1), empty)


def class_dice(labels: Labels, mask: Labels, classes: int, empty: float = 1.0) -> Array:
    """Dice of each foreground class, (classes - 1,) float64.

    Parameters
    ----------
    labels, mask
        Class indices below `classes`, of one shape.
    classes
        Number of classes including the background.
    empty
        See `dice`.

    Examples
    --------
    >>> class_dice(np.array([0, 1, 1, 2]), np.array([0, 1, 2, 2]), 4)
    array([0.66666667, 0.66666667, 1.        ])
    """
    return _table_dice(confusion_matrix(labels, mask, classes), empty)


def confusion_matrix(labels: Labels, mask: Labels, classes: int) -> NDArray[np.int64]:
    """Number of pixels by true class (rows) and predicted class (columns).

    Examples
    --------
    >>> confusion_matrix(np.array([0, 1, 1]), np.array([0, 0, 1]), 2)
    array([[1, 1],
           [0, 1]])
    """
    if classes == 2:
        in_mask, in_labels = mask.astype(bool), labels.astype(bool)
        both, true, predicted = map(np.count_nonzero, (in_mask & in_labels, in_mask, in_labels))
        missed, false = true - both, predicted - both
        return np.array([[mask.size - true - false, false], [missed, both]], np.int64)
    index = mask.astype(np.int64) * classes + labels
    return np.bincount(index.ravel(), minlength=classes**2).reshape(classes, classes)


def mean_defined(values: Sequence[float] | Array) -> float:
    """Mean of the values that are not NaN; NaN if there are none.

    Examples
    --------
    >>> mean_defined([0.5, float("nan"), 1.0])
    0.75
    """
    defined = np.asarray(values, np.float64)
    defined = defined[~np.isnan(defined)]
    return float(defined.mean()) if defined.size else float("nan")


def accuracy(table: NDArray[np.int64]) -> float:
    """Share of correctly classified pixels of a confusion matrix.

    Examples
    --------
    >>> accuracy(np.array([[5, 1], [2, 2]]))
    0.7
    """
    return float(_ratio(table.trace(), table.sum()))


def sensitivity(table: NDArray[np.int64]) -> float:
    """Sensitivity (recall) of a confusion matrix, mean over foreground classes.

    Examples
    --------
    >>> sensitivity(np.array([[5, 1], [2, 2]]))
    0.5
    """
    return mean_defined(_ratio(table.diagonal(), table.sum(1))[1:])


def specificity(table: NDArray[np.int64]) -> float:
    """Specificity of a confusion matrix, mean over foreground classes.

    Examples
    --------
    >>> specificity(np.array([[3, 1], [2, 2]]))
    0.75
    """
    outside = table.sum() - table.sum(1)
    false_positive = table.sum(0) - table.diagonal()
    return mean_defined(_ratio(outside - false_positive, outside)[1:])


def mean_iou(table: NDArray[np.int64]) -> float:
    """Intersection over union of a confusion matrix, mean over all classes with the background.

    Examples
    --------
    >>> mean_iou(np.array([[2, 1], [1, 0]]))
    0.25
    """
    correct = table.diagonal()
    return mean_defined(_ratio(correct, table.sum(0) + table.sum(1) - correct))


def mean_f1(table: NDArray[np.int64]) -> float:
    """F1 (Dice) of a confusion matrix, mean over foreground classes.

    Examples
    --------
    >>> mean_f1(np.array([[5, 1], [1, 1]]))
    0.5
    """
    return float(_table_dice(table).mean())


COUNT_METRICS: dict[str, Callable[[NDArray[np.int64]], float]] = {
    "accuracy": accuracy,
    "sensitivity": sensitivity,
    "specificity": specificity,
    "miou": mean_iou,
    "f1": mean_f1,
}
"""Metrics computed from a `confusion_matrix`."""

POOLED = (*COUNT_METRICS, "auc")
"""The metrics of `Pooled.result`."""

METRICS = ("dice", *POOLED, "hd95", "surface_dice")
"""The metrics of `score`."""


def score(
    probabilities: Float,
    mask: Labels,
    fov: Mask | None = None,
    threshold: float = 0.5,
    *,
    spacing: tuple[float, float] = (1.0, 1.0),
    tolerance: float = 1.0,
    classes: Sequence[str] | None = None,
    pooled: "Pooled | None" = None,
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
        Foreground threshold, for two classes.
    spacing
        Height and width of a pixel; the unit of `tolerance` and of HD95.
    tolerance
        Largest distance at which boundaries count as equal, for surface Dice.
    classes
        K names; with more than two classes each gets its own ``dice_NAME``.
    pooled
        Pooled metrics to add the image to.

    Returns
    -------
    dict of str to float
        `METRICS`; all except ``hd95`` are from 0 to 1. For ``hd95`` and
        ``surface_dice`` see `hausdorff95` and `surface_dice`. ``auc`` is exact to 1e-5.

    Raises
    ------
    InputError
        If shapes differ, a probability is not finite, the mask holds an
        unknown class, or the field of view is empty.

    Examples
    --------
    >>> mask = np.array([[0, 1], [1, 1]], np.uint8)
    >>> foreground = np.array([[0.2, 0.9], [0.8, 0.4]], np.float32)
    >>> scores = score(np.stack([1 - foreground, foreground]), mask)
    >>> scores["dice"], scores["accuracy"], scores["auc"]
    (0.8, 0.75, 1.0)
    """
    inside = _pixels_to_score(probabilities, mask, fov)
    labels = labels_from(probabilities, threshold)
    table, histograms = _count(probabilities, labels, mask, inside)
    per_class = _table_dice(table)
    scores = {"dice": float(per_class.mean())} | _count_scores(table)
    aucs = []
    for k, histogram in enumerate(histograms, start=1):
        auc, error = binned_auc(*histogram)
        if error > _MAX_AUC_ERROR:
            auc = exact_auc(probabilities[k][inside], mask[inside] == k)
        aucs.append(auc)
    scores["auc"] = mean_defined(aucs)
    scores["hd95"], scores["surface_dice"] = _surface_scores(
        labels, mask, inside, table, spacing, tolerance
    )
    if len(probabilities) > 2:
        names = classes or [str(k) for k in range(len(probabilities))]
        scores |= {f"dice_{n}": float(d) for n, d in zip(names[1:], per_class, strict=True)}
    if pooled is not None:  # last: an image that cannot be scored is in no figure
        pooled.add_counts(table, histograms)
    return scores


class Pooled:
    """Metrics over the pixels of many images, computed from running counts.

    Parameters
    ----------
    classes
        Number of classes including the background.

    Notes
    -----
    AUC is computed from histograms of the probabilities, with pixels in the same bin as
    ties. A bin at p is 1/2048 as wide as p or 1 - p, to resolve the probabilities of confident
    networks.

    Examples
    --------
    >>> pooled = Pooled(2)
    >>> for pixels in ([0, 1], [0, 0]):
    ...     mask = np.array([pixels], np.uint8)
    ...     pooled.add(np.stack([1 - mask, mask]).astype(np.float32), mask)
    >>> pooled.result()["f1"]
    1.0
    """

    def __init__(self, classes: int) -> None:
        self._table = np.zeros((classes, classes), np.int64)
        self._histograms = np.zeros((classes - 1, 2, BINS), np.int64)

    def add(
        self,
        probabilities: Float,
        mask: Labels,
        fov: Mask | None = None,
        threshold: float = 0.5,
    ) -> None:
        """Add one image; see `score` for parameters and errors."""
        inside = _pixels_to_score(probabilities, mask, fov)
        labels = labels_from(probabilities, threshold)
        self.add_counts(*_count(probabilities, labels, mask, inside))

    def add_counts(self, table: NDArray[np.int64], histograms: NDArray[np.int64]) -> None:
        """Add the confusion matrix and the histograms of an image; called by `score`."""
        self._table += table
        self._histograms += histograms

    def result(self) -> dict[str, float]:
        """Return the metrics `POOLED` over the pixels of all added images."""
        scores = _count_scores(self._table)
        scores["auc"] = mean_defined([binned_auc(*pair)[0] for pair in self._histograms])
        return scores


def _pixels_to_score(probabilities: Float, mask: Labels, fov: Mask | None) -> Mask:
    """Check the input of `score`, and return the pixels (H, W) inside the field of view."""
    size = probabilities.shape[1:]
    if not np.isfinite([probabilities.min(), probabilities.max()]).all():
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


def _table_dice(table: NDArray[np.int64], empty: float = 1.0) -> Array:
    """Dice of each foreground class of a confusion matrix."""
    return dice(table.diagonal(), table.sum(0), table.sum(1), empty)[1:]


def _count_scores(table: NDArray[np.int64]) -> dict[str, float]:
    return {name: metric(table) for name, metric in COUNT_METRICS.items()}


def _ratio(part: ArrayLike, whole: ArrayLike) -> Array:
    """Quotient of two counts; NaN if both are 0."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.true_divide(part, whole), np.float64)


def _count(
    probabilities: Float, labels: Labels, mask: Labels, inside: Mask
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Confusion matrix and histograms (K - 1, 2, bins) of the pixels inside.

    Axis 1 of the histograms is pixels outside the foreground class, then pixels in it.
    """
    classes = len(probabilities)
    table = np.zeros((classes, classes), np.int64)
    histograms = np.zeros((classes - 1, 2 * BINS), np.int64)
    maps = probabilities.reshape(classes, -1)
    flat_labels, flat_mask, flat_inside = labels.ravel(), mask.ravel(), inside.ravel()
    for start in range(0, inside.size, _PIXELS_AT_ONCE):
        part = slice(start, start + _PIXELS_AT_ONCE)
        selected = flat_inside[part]
        predicted, true = flat_labels[part][selected], flat_mask[part][selected]
        table += confusion_matrix(predicted, true, classes)
        for k in range(1, classes):
            bins = bins_of(maps[k, part][selected])
            bins[true == k] += BINS
            histograms[k - 1] += np.bincount(bins, minlength=2 * BINS)
    return table, histograms.reshape(-1, 2, BINS)


def _surface_scores(
    labels: Labels,
    mask: Labels,
    inside: Mask,
    table: NDArray[np.int64],
    spacing: tuple[float, float],
    tolerance: float,
) -> tuple[float, float]:
    """HD95 and surface Dice, means over the foreground classes."""
    hd95, dices = [], []
    for k in range(1, len(table)):
        in_mask, in_labels = table[k].sum() > 0, table[:, k].sum() > 0
        if in_mask and in_labels:
            predicted, true = (labels == k) & inside, (mask == k) & inside
            distances = surface_distances(predicted, true, spacing)
            hd95.append(hausdorff95(distances))
            dices.append(surface_dice(distances, tolerance))
        else:
            dices.append(float(in_mask == in_labels))
    return mean_defined(hd95), mean_defined(dices)
