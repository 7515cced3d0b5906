"""The threshold that an image itself asks for, where its probabilities are calibrated."""

import numpy as np
from numpy.typing import NDArray

STEPS = 200
"""Probabilities are counted in steps of 1/200, so that every threshold in percent is exact."""

LOWEST, HIGHEST = 0.2, 0.8
"""Left to an image, a faint guess is never a finding, however little else there is in it."""

_TOLERANCE = 1e-6


def quantise(probabilities: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Probabilities in whole steps of 1/`STEPS`, rounded down; uint8 of the same shape."""
    # Resizing may round a probability to just above 1.
    steps = np.floor(np.asarray(probabilities) * STEPS + _TOLERANCE)
    return np.clip(steps, 0, STEPS).astype(np.uint8)


def at_least(steps: NDArray[np.integer], probability: float) -> NDArray[np.uint8]:
    """1 where steps from `quantise`, or sums of them, come to a probability; else 0."""
    return np.asarray(steps >= np.ceil(probability * STEPS - _TOLERANCE), np.uint8)


def threshold_of(steps: NDArray[np.uint8]) -> float:
    """The threshold at which the labels of an image have the best expected Dice.

    With calibrated probabilities p the labels above a threshold are expected
    to overlap by ``sum(p[above])``, and the mask to have ``sum(p)`` pixels, so
    that the Dice of the expectations is known without a mask (Lipton, Elkan
    and Naryanaswamy 2014, arXiv 1402.1892: the best threshold is half the best
    F1). Faint images get a lower threshold, clear ones a higher.

    Parameters
    ----------
    steps
        Foreground probabilities (H, W) from `quantise`; 0 outside the field
        of view.

    Returns
    -------
    float
        In whole percent, from `LOWEST` to `HIGHEST`; `LOWEST` where nothing
        is expected.
    """
    pixels = np.bincount(steps.ravel(), minlength=STEPS + 1).astype(np.float64)
    # A step holds what lies above it; the lowest one nearly nothing.
    probability = (np.arange(STEPS + 1) + 0.5) / STEPS
    probability[[0, -1]] = 0, 1
    expected = pixels * probability
    found, overlap = (np.cumsum(part[::-1])[::-1] for part in (pixels, expected))
    dice = 2 * overlap / np.maximum(found + expected.sum(), 1)
    allowed = np.arange(round(LOWEST * STEPS), round(HIGHEST * STEPS) + 1, STEPS // 100)
    return float(allowed[int(dice[allowed].argmax())] / STEPS)
