"""Dice of an image at many thresholds at once."""

import numpy as np
from numpy.typing import NDArray

from src_training.data.preprocessing.geometry import Float, Mask
from src_training.evaluation.metrics import class_dice, dice, mean_defined
from src_training.inference.image_threshold import HIGHEST, STEPS, quantise

THRESHOLDS = np.arange(5, round(100 * HIGHEST) + 1) / 100
"""Candidate thresholds for the foreground probability, in whole percent.

The best threshold of a calibrated model with Dice d is near d / 2, so weak models need low
thresholds; they would otherwise predict no foreground at all.
"""


def dice_curve(probabilities: Float, mask: NDArray[np.integer], fov: Mask | None = None) -> Float:
    """Mean Dice over the foreground classes of an image at each of `THRESHOLDS`.

    Parameters
    ----------
    probabilities
        (K, H, W). With more than two classes a pixel gets the most
        probable class, and the threshold is not used.
    mask
        (H, W) class indices below K.
    fov
        (H, W) bool, the pixels that count; None counts all.

    Returns
    -------
    ndarray
        (T,) float32. Classes in neither mask nor labels are
        left out of the mean; NaN if there is no other class.

    Examples
    --------
    >>> foreground = np.array([[0.1, 0.3, 0.7]], np.float32)
    >>> curve = dice_curve(np.stack([1 - foreground, foreground]), np.array([[0, 1, 1]]))
    >>> curve[np.searchsorted(THRESHOLDS, [0.05, 0.2, 0.5])]
    array([0.8      , 1.       , 0.6666667], dtype=float32)
    """
    inside = np.ones(mask.shape, np.bool_) if fov is None else fov
    true = mask[inside]
    if len(probabilities) == 2:
        return _foreground_curve(quantise(probabilities[1][inside]), true > 0)
    labels = probabilities.argmax(0)[inside]
    per_class = class_dice(labels, true, len(probabilities), empty=np.nan)
    return np.full(len(THRESHOLDS), mean_defined(per_class), np.float32)


def _foreground_curve(steps: NDArray[np.uint8], true: Mask) -> Float:
    """Dice at each threshold, from cumulative histograms of quantised probabilities."""
    first = np.round(THRESHOLDS * STEPS).astype(int)
    predicted, overlap = (
        np.bincount(selected, minlength=STEPS + 1)[::-1].cumsum()[::-1][first]
        for selected in (steps, steps[true])
    )
    return dice(overlap, predicted, true.sum(), empty=np.nan).astype(np.float32)
