"""AUC from histograms of probabilities, and from the probabilities themselves."""

import numpy as np
from numpy.typing import NDArray

from src_training.data.preprocessing.geometry import Float, Mask

_DROPPED_BITS = 12
"""Last bits of a float32 that bins leave out: each is 1/2048 as wide as its probability."""

_LEAST_BITS, _HALF_BITS = (
    int(np.float32(p).view(np.int32)) >> _DROPPED_BITS for p in (2.0**-32, 0.5)
)
BINS = 2 * (_HALF_BITS - _LEAST_BITS) + 1
"""Bins of probabilities from 0 to 1."""


def bins_of(probabilities: Float) -> NDArray[np.int32]:
    """The first bits of p up to 1/2, and above it mirrored those of 1 - p, which is exact."""
    # Resizing may round a probability to just above 1.
    p = np.clip(probabilities, 0, 1, dtype=np.float32)
    upper = p > 0.5
    np.subtract(1, p, out=p, where=upper)
    bins: NDArray[np.int32] = p.view(np.int32) >> _DROPPED_BITS
    bins -= _LEAST_BITS
    np.maximum(bins, 0, out=bins)
    np.subtract(BINS - 1, bins, out=bins, where=upper)
    return bins


def binned_auc(negative: NDArray[np.int64], positive: NDArray[np.int64]) -> tuple[float, float]:
    """Probability that a positive ranks above a negative, ties counting half; its largest error."""
    pairs = float(negative.sum()) * float(positive.sum())
    if pairs == 0:
        return float("nan"), 0.0
    below = np.cumsum(negative) - negative / 2
    return float((positive * below).sum() / pairs), float((positive * negative).sum() / pairs) / 2


def exact_auc(probabilities: Float, positive: Mask) -> float:
    """Probability that a positive pixel ranks above a negative one, ties counting half."""
    above, below = np.sort(probabilities[positive]), np.sort(probabilities[~positive])
    if not above.size or not below.size:
        return float("nan")
    # Counts are summed as integers, so that nothing is rounded before the division.
    twice = sum(int(np.searchsorted(below, above, side).sum()) for side in ("left", "right"))
    return twice / (2 * above.size * below.size)
