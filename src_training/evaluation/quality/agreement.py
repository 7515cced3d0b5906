"""Agreement of expected Dice, and of simpler measures without masks, with real Dice."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from src_training.inference.expected_dice import ExpectedDice
from src_training.inference.image_threshold import STEPS, quantise

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Agreement:
    """Agreement of expected with real Dice over the images of a domain.

    Attributes
    ----------
    images
        Number of images that are not foreign.
    expected, real
        Mean expected and mean real Dice.
    error
        ``expected - real``.
    mean_absolute_error
        Mean absolute error over images.
    pearson, spearman
        Correlations over images; NaN for fewer than three, or if one side is constant.
    auroc_worst_fifth
        Area under the ROC curve of detecting the fifth of the images with the lowest real Dice;
        NaN for fewer than five.
    coverage
        Share of images whose interval contains the real Dice; NaN without intervals.
    foreign
        Number of foreign images, which all other fields ignore.
    """

    images: int
    expected: float
    real: float
    error: float
    mean_absolute_error: float
    pearson: float
    spearman: float
    auroc_worst_fifth: float
    coverage: float
    foreign: int = 0

    def to_dict(self) -> dict[str, float | None]:
        """Convert to values for JSON, with None for NaN."""
        return {name: None if math.isnan(v) else v for name, v in asdict(self).items()}


def agreement(expected: Mapping[str, ExpectedDice], real: Mapping[str, float]) -> Agreement:
    """Compare expected with real Dice, image by image.

    Examples
    --------
    >>> sure = {str(n): ExpectedDice(n / 10, n / 10 - 0.1, n / 10 + 0.1, 0) for n in range(10)}
    >>> found = agreement(sure, {str(n): n / 10 + 0.05 for n in range(10)})
    >>> round(found.error, 3), round(found.spearman, 3), found.auroc_worst_fifth, found.coverage
    (-0.05, 1.0, 1.0, 1.0)
    """
    known = [name for name in real if not expected[name].foreign]
    foreign = len(real) - len(known)
    if not known:
        return Agreement(0, *(math.nan,) * 8, foreign=foreign)
    values = np.array([expected[name].value for name in known])
    truth = np.array([real[name] for name in known], float)
    ends = np.array([(expected[name].low, expected[name].high) for name in known]).reshape(-1, 2)
    covered = (ends[:, 0] <= truth) & (truth <= ends[:, 1])
    return Agreement(
        images=len(truth),
        expected=float(values.mean()),
        real=float(truth.mean()),
        error=float((values - truth).mean()),
        mean_absolute_error=float(np.abs(values - truth).mean()),
        pearson=_correlation(stats.pearsonr, values, truth),
        spearman=_correlation(stats.spearmanr, values, truth),
        auroc_worst_fifth=auroc_worst_fifth(values, truth),
        coverage=math.nan if np.isnan(ends).any() else float(covered.mean()),
        foreign=foreign,
    )


def auroc_worst_fifth(confidence: Array, truth: Array) -> float:
    """Area under the ROC curve of detecting the worst fifth by low confidence.

    >>> auroc_worst_fifth(np.array([0.1, 0.3, 0.2, 0.4, 0.5]), np.array([0.0, 0.1, 0.2, 0.3, 0.4]))
    1.0
    """
    if len(truth) < 5:
        return math.nan
    worst = np.zeros(len(truth), bool)
    worst[np.argsort(truth, kind="stable")[: math.ceil(len(truth) / 5)]] = True
    ranks = stats.rankdata(-confidence)
    count, others = int(worst.sum()), int((~worst).sum())
    return float((ranks[worst].sum() - count * (count + 1) / 2) / (count * others))


def mean_entropy(probabilities: NDArray[np.floating]) -> float:
    """Mean entropy of a pixel in nats, of each foreground class against the rest.

    Parameters
    ----------
    probabilities
        (K, H, W).

    Examples
    --------
    >>> round(mean_entropy(np.full((2, 4, 4), 0.5)), 3)
    0.693
    """
    shares = np.clip(np.arange(STEPS + 1) / STEPS, 1e-6, 1 - 1e-6)
    entropy = -(shares * np.log(shares) + (1 - shares) * np.log(1 - shares))
    counts = np.bincount(quantise(probabilities[1:]).ravel(), minlength=STEPS + 1)
    return float((counts * entropy).sum() / counts.sum())


def _correlation(measure: Callable[..., tuple[float, float]], a: Array, b: Array) -> float:
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan
    return float(measure(a, b)[0])
