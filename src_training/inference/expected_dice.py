"""The expected Dice of labels, estimated from their probabilities without a mask.

The soft Dice confidence of labels is twice the probability inside the labels, over the labelled
pixels plus the total probability. With calibrated probabilities this is the Dice of the
expectations (arXiv 2402.10665; Li et al., arXiv 2207.09957, for each class).
`evaluation.quality` fits a linear map of its logit on validation images, which corrects it and
gives an interval. Confident errors remain invisible, such as an object that the model misses
with high confidence, or experts who annotate differently.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy.special import expit, logit

from src_training.data.preprocessing.geometry import Float
from src_training.inference.bn_adaptation import KnownInputs, Shift
from src_training.inference.image_threshold import STEPS, binarise, step_probabilities

Sums = NDArray[np.float64]
"""(K - 1, 4), of each foreground class: number of labelled pixels, sum of probabilities in them,
sum of all probabilities, number of all pixels. Sums of slices add up to those of a volume."""

LEVEL = 0.9
"""Nominal coverage of the interval of expected Dice, over unseen images."""

LOWEST, HIGHEST = 0.01, 0.99
"""Range that confidence and Dice are clipped to, so that their logits are finite."""

_MAX_SHARE_RATIO = 1.25
"""Labels are oversized above this multiple of the largest labelled share of a validation image."""

_WIDENING = 0.5
"""Each end of an interval moves by so many logits for every logit below the validation range."""


class ClassQuality(BaseModel):
    """Correction of the expected Dice of one class, fitted on validation images.

    Attributes
    ----------
    slope, offset
        The logit of expected Dice is ``slope * logit(confidence) + offset``.
    margin
        Half the interval, as a difference of logits.
    lowest, largest
        Lowest confidence and largest labelled share among the images of the fit.
    empty
        Expected Dice of empty labels: the share of images with empty labels whose mask is empty.
    size
        Logarithm of the ratio of real foreground pixels to the sum of probabilities.
    size_margin
        Half the interval of `size`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    slope: float = Field(ge=0)
    offset: float
    margin: float = Field(ge=0)
    lowest: float = Field(ge=0, le=1)
    largest: float = Field(ge=0, le=1)
    empty: float = Field(ge=0, le=1)
    size: float
    size_margin: float = Field(ge=0)


class SourceDice(BaseModel):
    """Expected Dice of the source's validation images, without style augmentation.

    Attributes
    ----------
    mean
        Expit of the mean logit over the images with labelled pixels.
    low
        Lower limit, below which one in twenty further images of that scanner is expected.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    mean: float = Field(ge=0, le=1)
    low: float = Field(ge=0, le=1)


class Quality(BaseModel):
    """Correction of the expected Dice of a model; a field of its card.

    Attributes
    ----------
    classes
        Correction of each foreground class.
    images, restyled
        Number of validation images of the fit, plain and with style augmentation.
    source
        Expected Dice of the source's images, for comparison; None in older files, and if
        no validation image has labelled pixels.
    known
        Distribution of images that the correction is valid for; None in older files, and for
        models whose batch norms do not adapt to the image.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    classes: list[ClassQuality]
    images: int = Field(ge=1, le=2**62)
    restyled: int = Field(ge=0, le=2**62)
    source: SourceDice | None = None
    known: KnownInputs | None = None


@dataclass(frozen=True)
class ExpectedDice:
    """Expected Dice of labels; a mean over the foreground classes.

    Attributes
    ----------
    value
        Corrected confidence; the uncorrected one if the model has no correction.
    low, high
        Interval with coverage `LEVEL`; NaN if the model has no correction.
    confidence
        Soft Dice confidence; 0 for a class without labelled pixels.
    extrapolated
        Whether the confidence is below that of every validation image; the
        interval is then wider, and a guess.
    oversized
        Whether far more is labelled than on any validation image, as when a network confidently
        mistakes one organ for another; the interval then begins at 0.
    empty
        Whether no pixel is labelled.
    foreign
        Whether the image, or most of a stack, is unlike the images of the fit. The interval is
        then 0 to 1, and `value` is meaningless.
    """

    value: float
    low: float
    high: float
    confidence: float
    extrapolated: bool = False
    oversized: bool = False
    empty: bool = False
    foreign: bool = False

    def __str__(self) -> str:
        """Format value and interval, as in ``0.78 (0.71 to 0.84)``."""
        if self.foreign:
            return "cannot be told"
        if math.isnan(self.low):
            return f"{self.value:.2f}, no interval known"
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"

    @property
    def remark(self) -> str:
        """Reason why the value is uncertain; empty if there is none."""
        if self.foreign:
            return "unlike any validation image in intensities or in what it shows"
        if self.empty:
            return "nothing is labelled"
        if self.oversized:
            return "far more is labelled than on any validation image"
        return "less sure than on any validation image" if self.extrapolated else ""

    def to_dict(self) -> dict[str, float | bool | None]:
        """Convert to values for JSON, with None for NaN."""
        return {
            name: None if isinstance(value, float) and math.isnan(value) else value
            for name, value in asdict(self).items()
        }


SourceRelation = Literal["as", "below", "unknown"]
"""Whether expected Dice is ``as`` on the source's own images, ``below`` that of nineteen in
twenty of them, or ``unknown`` because the labels are empty or cannot be trusted."""


@dataclass(frozen=True)
class SourceComparison:
    """Comparison of the expected Dice of an image with that of the source's validation images.

    Attributes
    ----------
    relation
        See `SourceRelation`.
    source
        Expected Dice of the source's validation images.
    """

    relation: SourceRelation
    source: SourceDice

    def phrase(self, scanner: str = "scanner") -> str:
        """Describe the relation in a few words; empty if it is unknown.

        >>> SourceComparison("as", SourceDice(mean=0.78, low=0.71)).phrase("camera")
        'as on the training camera'
        >>> SourceComparison("below", SourceDice(mean=0.78, low=0.71)).phrase("camera")
        'lower than on the training camera (0.78)'
        """
        if self.relation == "unknown":
            return ""
        if self.relation == "as":
            return f"as on the training {scanner}"
        return f"lower than on the training {scanner} ({self.source.mean:.2f})"


def compare_with_source(expected: ExpectedDice, quality: Quality | None) -> SourceComparison | None:
    """Compare an expected Dice with that of the source's own validation images.

    Parameters
    ----------
    expected
        Expected Dice of an image, a slice, a stack or a volume.
    quality
        Correction from the model card.

    Returns
    -------
    SourceComparison or None
        None if the model card has no expected Dice of its source.
    """
    if quality is None or quality.source is None:
        return None
    relation: SourceRelation = "as" if expected.value >= quality.source.low else "below"
    if expected.empty or expected.oversized or expected.foreign:
        relation = "unknown"
    return SourceComparison(relation, quality.source)


@dataclass(frozen=True)
class ExpectedSize:
    """Expected number of foreground pixels of one class.

    Attributes
    ----------
    value, low, high
        Expectation, and its interval with coverage `LEVEL`; NaN if the model has no correction.
    """

    value: float
    low: float
    high: float


def label_sums(probabilities: Float, labels: NDArray[np.integer]) -> Sums:
    """Compute the `Sums` of an image from probabilities (K, H, W) and labels (H, W).

    Examples
    --------
    >>> foreground = np.array([[0.1, 0.3, 0.7]])
    >>> label_sums(np.stack([1 - foreground, foreground]), np.array([[0, 0, 1]])).tolist()
    [[1.0, 0.7, 1.1, 3.0]]
    """
    sums = []
    for k, maps in enumerate(probabilities[1:], start=1):
        labelled = labels == k
        sums.append(
            (
                np.count_nonzero(labelled),
                maps.sum(where=labelled, dtype=np.float64),
                maps.sum(dtype=np.float64),
                maps.size,
            )
        )
    return np.array(sums, np.float64)


def sums_of_counts(pixels: NDArray[np.int64], threshold: float) -> Sums:
    """Compute `label_sums` of two classes from `step_counts` of the foreground probabilities.

    >>> pixels = np.zeros(STEPS + 1, np.int64)
    >>> pixels[[0, 50, 150]] = 1
    >>> sums_of_counts(pixels, 0.5).tolist()
    [[1.0, 0.7525, 1.005, 3.0]]
    """
    above = binarise(np.arange(STEPS + 1), threshold) > 0
    expected = pixels * step_probabilities()
    return np.array([[pixels[above].sum(), expected[above].sum(), expected.sum(), pixels.sum()]])


def soft_dice(sums: Sums) -> Sums:
    """Soft Dice confidence of each foreground class in [0, 1]; 0 without labelled pixels.

    >>> soft_dice(np.array([[10, 8, 10, 100], [0, 0, 3, 100]])).tolist()
    [0.8, 0.0]
    """
    labelled, inside, everywhere, _ = sums.T
    # Resizing may round probabilities to just above 1.
    return np.asarray(np.minimum(2 * inside / np.maximum(labelled + everywhere, 1e-9), 1))


def expected_dice(
    sums: Sums, quality: Quality | None, foreign: Sequence[bool] = ()
) -> ExpectedDice:
    """Estimate the Dice of labels.

    Parameters
    ----------
    sums
        Sums of an image, a slice, a stack or a volume.
    quality
        Correction from the model card; without it there is no interval.
    foreign
        Whether the image, or each slice, is foreign (see `are_foreign`); the majority decides.

    Examples
    --------
    >>> sums = np.array([[10.0, 8.0, 10.0, 100.0]])
    >>> print(expected_dice(sums, None))
    0.80, no interval known
    >>> seen = ClassQuality(
    ...     slope=1, offset=0, margin=0.4, lowest=0.7, largest=0.2, empty=0, size=0, size_margin=0.1
    ... )
    >>> print(expected_dice(sums, Quality(classes=[seen], images=4, restyled=12)))
    0.80 (0.73 to 0.86)
    """
    each = [
        _of_class(row, confidence, None if quality is None else quality.classes[k])
        for k, (row, confidence) in enumerate(zip(sums, soft_dice(sums), strict=True))
    ]
    mean = mean_expected_dice(each)
    most = 2 * sum(foreign) > len(foreign)
    return replace(mean, low=0.0, high=1.0, foreign=True) if most else mean


def are_foreign(quality: Quality | None, shifts: Sequence[Shift | None]) -> list[bool]:
    """Tell of each image whether it is unlike those that the correction was fitted to."""
    if quality is None or quality.known is None:
        return [False] * len(shifts)
    return [quality.known.is_foreign(shift) for shift in shifts]


def expected_by_class(
    sums: Sums, quality: Quality | None, classes: Sequence[str]
) -> dict[str, ExpectedDice]:
    """Return foreground class name -> `expected_dice` of that class.

    Parameters
    ----------
    sums, quality
        See `expected_dice`.
    classes
        Names of all classes, background first.
    """
    confidences = soft_dice(sums)
    return {
        name: _of_class(sums[k], confidences[k], None if quality is None else quality.classes[k])
        for k, name in enumerate(classes[1:])
    }


def mean_expected_dice(each: Sequence[ExpectedDice]) -> ExpectedDice:
    """Average expected Dice; the interval assumes that all errors have the same sign."""
    value, low, high, confidence = (
        float(np.mean([getattr(one, name) for one in each]))
        for name in ("value", "low", "high", "confidence")
    )
    extrapolated, oversized, foreign = (
        any(getattr(one, name) for one in each) for name in ("extrapolated", "oversized", "foreign")
    )
    empty = all(one.empty for one in each)
    return ExpectedDice(value, low, high, confidence, extrapolated, oversized, empty, foreign)


def expected_sizes(sums: Sums, quality: Quality | None) -> list[ExpectedSize]:
    """Estimate the foreground pixels of each class in an image, a stack or a volume."""
    if quality is None:
        return [ExpectedSize(float(total), math.nan, math.nan) for total in sums[:, 2]]
    return [
        ExpectedSize(
            *(float(total * math.exp(one.size + shift * one.size_margin)) for shift in (0, -1, 1))
        )
        for total, one in zip(sums[:, 2], quality.classes, strict=True)
    ]


def bounded_logit(shares: NDArray[np.floating] | float) -> NDArray[np.float64]:
    """Logits of Dice or confidence, clipped to `LOWEST` and `HIGHEST`."""
    return np.asarray(logit(np.clip(np.asarray(shares, np.float64), LOWEST, HIGHEST)))


def _of_class(row: Sums, confidence: float, quality: ClassQuality | None) -> ExpectedDice:
    empty = bool(row[0] == 0)
    if quality is None:
        return ExpectedDice(float(confidence), math.nan, math.nan, float(confidence), empty=empty)
    if empty:
        # The Dice of empty labels is either 0 or 1.
        low, high = float(quality.empty > LEVEL), float(quality.empty > 1 - LEVEL)
        if quality.empty == 0:  # there may have been no empty mask among the validation images
            high = 1.0
        return ExpectedDice(quality.empty, low, high, float(confidence), empty=True)
    at, lowest = float(bounded_logit(confidence)), float(bounded_logit(quality.lowest))
    centre, beyond = quality.slope * at + quality.offset, max(0.0, lowest - at)
    margin = quality.margin + _WIDENING * beyond
    value, low, high = (float(expit(centre + shift)) for shift in (0, -margin, margin))
    oversized = bool(row[0] > _MAX_SHARE_RATIO * quality.largest * row[3])
    return ExpectedDice(
        value, 0.0 if oversized else low, high, float(confidence), beyond > 0, oversized
    )
