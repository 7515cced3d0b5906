"""A threshold for each image: the one with the best expected Dice."""

import math

import numpy as np
from numpy.typing import NDArray

STEPS = 200
"""Quantisation steps from probability 0 to 1; thresholds in whole percent are exact."""

LOWEST, HIGHEST = 0.2, 0.8
"""Range of the threshold; the lower limit prevents labels of noise in an empty image."""

_TOLERANCE = 1e-6


def quantise(probabilities: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Quantise probabilities in steps of 1/`STEPS`, rounded down; uint8 of the same shape.

    >>> quantise(np.array([0.0, 0.009, 0.5, 1.0])).tolist()
    [0, 1, 100, 200]
    """
    # Resizing may round a probability to just above 1.
    steps = np.asarray(probabilities) * STEPS
    steps += _TOLERANCE
    return np.clip(steps, 0, STEPS, out=steps).astype(np.uint8)


def binarise(steps: NDArray[np.integer], threshold: float) -> NDArray[np.uint8]:
    """Return 1 where quantised probabilities, or sums of them, reach a threshold, else 0.

    >>> binarise(np.array([99, 100, 101]), 0.5).tolist()
    [0, 1, 1]
    """
    return np.asarray(steps >= math.ceil(threshold * STEPS - _TOLERANCE), np.uint8)


def step_counts(steps: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Histogram of quantised probabilities, (`STEPS` + 1,).

    >>> step_counts(np.array([[0, 1, 1]], np.uint8))[:3].tolist()
    [1, 2, 0]
    """
    import torch  # counts uint8 directly, whereas NumPy converts them to int64 first

    counts: NDArray[np.int64] = torch.bincount(
        torch.from_numpy(steps).ravel(), minlength=STEPS + 1
    ).numpy()
    return counts


def step_probabilities() -> NDArray[np.float64]:
    """Probability that each step represents, (`STEPS` + 1,).

    Quantising rounds down, so a step represents its centre; the first and the last are exact.
    """
    probabilities = (np.arange(STEPS + 1) + 0.5) / STEPS
    probabilities[[0, -1]] = 0, 1
    return probabilities


def expected_dice_threshold(steps: NDArray[np.uint8]) -> float:
    """Return the threshold at which the labels of an image have the best expected Dice.

    With calibrated probabilities p, the labels above a threshold are expected
    to overlap the mask in ``sum(p[above])`` pixels, and the mask is expected to have
    ``sum(p)`` pixels, which gives the Dice of the expectations without a
    mask (Lipton, Elkan and Naryanaswamy 2014, arXiv 1402.1892: the best
    threshold is half the best F1). Images with lower probabilities get a lower threshold.

    Parameters
    ----------
    steps
        Foreground probabilities (H, W) from `quantise`; 0 outside the field
        of view.

    Returns
    -------
    float
        Threshold in whole percent, from `LOWEST` to `HIGHEST`; `LOWEST` if no
        foreground is expected.

    Examples
    --------
    >>> clear = np.linspace(0, 1, 1001)[None]
    >>> faint = 0.6 * clear
    >>> expected_dice_threshold(quantise(clear)), expected_dice_threshold(quantise(faint))
    (0.38, 0.28)
    """
    return best_threshold(step_counts(steps))


def best_threshold(pixels: NDArray[np.int64]) -> float:
    """Return `expected_dice_threshold` of an image from its `step_counts`."""
    expected = pixels * step_probabilities()
    above, overlap = (np.cumsum(part[::-1])[::-1] for part in (pixels, expected))
    dice = 2 * overlap / np.maximum(above + expected.sum(), 1)
    allowed = np.arange(round(LOWEST * STEPS), round(HIGHEST * STEPS) + 1, STEPS // 100)
    return float(allowed[int(dice[allowed].argmax())] / STEPS)
