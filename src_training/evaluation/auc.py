"""AUC from histograms of probabilities, and exact AUC from the probabilities themselves."""

import numpy as np
from numpy.typing import NDArray

from src_training.data.preprocessing.geometry import Float, Mask

_DROPPED_BITS = 12
"""Number of low bits of a float32 that bins ignore; a bin is 1/2048 as wide as its probability."""

_MIN_BITS, _HALF_BITS = (
    int(np.float32(p).view(np.int32)) >> _DROPPED_BITS for p in (2.0**-32, 0.5)
)
BINS = 2 * (_HALF_BITS - _MIN_BITS) + 1
"""Number of bins of probabilities from 0 to 1."""


def bins_of(probabilities: Float) -> NDArray[np.int32]:
    """Return the bin of each probability p.

    Bins are the high bits of p up to 1/2, and mirrored ones of 1 - p above (which float32
    represents exactly), so that they are narrow near 0 and near 1.
    """
    # Resizing may round a probability to just above 1.
    p = np.clip(probabilities, 0, 1, dtype=np.float32)
    upper = p > 0.5
    np.subtract(1, p, out=p, where=upper)
    bins: NDArray[np.int32] = p.view(np.int32) >> _DROPPED_BITS
    bins -= _MIN_BITS
    np.maximum(bins, 0, out=bins)
    np.subtract(BINS - 1, bins, out=bins, where=upper)
    return bins


def binned_auc(negative: NDArray[np.int64], positive: NDArray[np.int64]) -> tuple[float, float]:
    """Return the AUC from histograms, with ties counting half, and its largest possible error."""
    pairs = float(negative.sum()) * float(positive.sum())
    if pairs == 0:
        return float("nan"), 0.0
    below = np.cumsum(negative) - negative / 2
    return float((positive * below).sum() / pairs), float((positive * negative).sum() / pairs) / 2


def exact_auc(probabilities: Float, positive: Mask) -> float:
    """Return the exact AUC, with ties counting half."""
    above, below = np.sort(probabilities[positive]), np.sort(probabilities[~positive])
    if not above.size or not below.size:
        return float("nan")
    # Integer sums avoid rounding errors before the division.
    twice = sum(int(np.searchsorted(below, above, side).sum()) for side in ("left", "right"))
    return twice / (2 * above.size * below.size)
