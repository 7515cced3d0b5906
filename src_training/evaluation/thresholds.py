"""Dice at every threshold at once."""

import numpy as np
from numpy.typing import NDArray

from src_training.data.preprocessing import Float, Mask
from src_training.inference.image_threshold import HIGHEST, STEPS, quantise

THRESHOLDS = np.arange(5, round(100 * HIGHEST) + 1) / 100
"""Whole percents at which foreground may begin.

Calibrated, a model of Dice d does best near d / 2: the lowest are for those that
know little, and would else find nothing.
"""


def dice_curve(probabilities: Float, mask: NDArray[np.integer], seen: Mask | None = None) -> Float:
    """Mean Dice over the foreground classes of an image at each of `THRESHOLDS`.

    Parameters
    ----------
    probabilities
        (K, H, W). With more than two classes a pixel belongs to the most
        probable one, whatever the threshold.
    mask
        (H, W) class indices below K.
    seen
        (H, W) bool; the pixels that count, all if None.

    Returns
    -------
    ndarray
        (T,) float32; NaN where no class is in mask or labels.
    """
    inside = np.ones(mask.shape, np.bool_) if seen is None else seen
    truth = mask[inside]
    if len(probabilities) == 2:
        return _overlap_curve(quantise(probabilities[1][inside]), truth > 0)
    labels = probabilities.argmax(0)[inside]
    classes = [_dice(labels == k, truth == k) for k in range(1, len(probabilities))]
    defined = [dice for dice in classes if not np.isnan(dice)]
    return np.full(len(THRESHOLDS), np.mean(defined) if defined else np.nan, np.float32)


def _overlap_curve(steps: NDArray[np.uint8], truth: Mask) -> Float:
    first = np.round(THRESHOLDS * STEPS).astype(int)
    found, both = (
        np.bincount(chosen, minlength=STEPS + 1)[::-1].cumsum()[::-1][first]
        for chosen in (steps, steps[truth])
    )
    size = found + truth.sum()
    with np.errstate(invalid="ignore"):
        return np.asarray(2 * both / size, np.float32)


def _dice(found: Mask, truth: Mask) -> float:
    size = int(found.sum()) + int(truth.sum())
    return 2 * int((found & truth).sum()) / size if size else float("nan")
