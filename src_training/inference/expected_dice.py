"""How good labels are expected to be, from the probabilities that they were made of alone.

The soft Dice confidence of labels is twice the probability above the threshold, over labels plus
probability: the Dice of the expectations, if probabilities are calibrated (arXiv 2402.10665;
Li et al., arXiv 2207.09957, for each class). A small map, which `evaluation.quality` fits on
validation images, corrects it and tells how far off it may be. It cannot see what a model is
wrong about with confidence: an object missed without a trace, or experts who mark other things.
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
"""(K - 1, 4), of each foreground class: pixels labelled, probability in them, probability in all,
and pixels in all. Sums of images add up to those of a stack or a volume."""

LEVEL = 0.9
"""Of so many unseen images, the interval of expected Dice is to hold the real Dice."""

LOWEST, HIGHEST = 0.01, 0.99
"""Confidence and Dice are held between these, as their logits must be finite."""

_LARGER = 1.25
"""So many times the largest labelled share that validation saw is far more."""

_WIDENING = 0.5
"""Logits that each end of an interval moves away for a logit below what validation saw."""


class ClassQuality(BaseModel):
    """What validation images told of the expected Dice of one class.

    Attributes
    ----------
    slope, offset
        The logit of expected Dice is ``slope * logit(confidence) + offset``.
    margin
        Half the interval, as a difference of logits.
    lowest, largest
        Least confidence, and largest labelled share of an image, among those that the map was
        fitted to.
    empty
        Expected Dice where nothing is labelled: how often that was right.
    size
        Logarithm of the real foreground over the sum of the probabilities.
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
    """Expected Dice of the source's own validation images, as its scanner shows them.

    Attributes
    ----------
    mean
        Over the images of which something is labelled; the expit of their mean logit.
    low
        One in twenty further images of that scanner is expected below it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    mean: float = Field(ge=0, le=1)
    low: float = Field(ge=0, le=1)


class Quality(BaseModel):
    """How expected Dice is corrected; one for a model, in its card.

    Attributes
    ----------
    classes
        For each foreground class.
    images, restyled
        How many validation images it was fitted to, plain and in styles of other scanners.
    source
        What to compare the expected Dice of an image with; None in older files, and where
        nothing is labelled on any validation image.
    known
        Which images it holds for; None in older files, and for models whose batch norms do not
        adapt to the image.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    classes: list[ClassQuality]
    images: int = Field(ge=1, le=2**62)
    restyled: int = Field(ge=0, le=2**62)
    source: SourceDice | None = None
    known: KnownInputs | None = None


@dataclass(frozen=True)
class ExpectedDice:
    """Dice that labels are expected to have; a mean over the foreground classes.

    Attributes
    ----------
    value
        The expectation: the corrected confidence, or the bare one without a map.
    low, high
        Interval of `LEVEL`; NaN where the model has no map.
    confidence
        Soft Dice confidence; 0 for a class of which nothing is labelled.
    extrapolated
        Whether the confidence is below that of every validation image, so that the
        interval is a guess, and wider.
    oversized
        Whether far more is labelled than on any validation image, as where a network takes one
        organ for another with confidence: nothing is known then, and the interval begins at 0.
    empty
        Whether nothing at all is labelled.
    foreign
        Whether the image, or most of a stack, is of another kind than those that the map was
        fitted to. Nothing is known then: the interval is 0 to 1, and `value` stands for nothing.
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
        """For a person to read, as in ``0.78 (0.71 to 0.84)``."""
        if self.foreign:
            return "cannot be told"
        if math.isnan(self.low):
            return f"{self.value:.2f}, no interval known"
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"

    @property
    def remark(self) -> str:
        """What to know of it, or nothing."""
        if self.foreign:
            return "unlike any validation image in intensities or in what it shows"
        if self.empty:
            return "nothing is labelled"
        if self.oversized:
            return "far more is labelled than on any validation image"
        return "less sure than on any validation image" if self.extrapolated else ""

    def to_dict(self) -> dict[str, float | bool | None]:
        """As values for JSON, None for NaN."""
        return {
            name: None if isinstance(value, float) and math.isnan(value) else value
            for name, value in asdict(self).items()
        }


SourceRelation = Literal["as", "below", "unknown"]
"""Whether expected Dice is ``as`` on the source's own images, ``below`` that of nineteen in
twenty of them, or ``unknown``: nothing is labelled, or what is labelled cannot be trusted."""


@dataclass(frozen=True)
class SourceComparison:
    """How the expected Dice of an image compares with that of the source's validation images.

    Attributes
    ----------
    relation
        See `SourceRelation`.
    source
        What it was compared with.
    """

    relation: SourceRelation
    source: SourceDice

    def phrase(self, scanner: str = "scanner") -> str:
        """Say it in a few words, after the figure; nothing where it is unknown.

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
        Of an image, a slice, a stack or a volume.
    quality
        From the card of the model.

    Returns
    -------
    SourceComparison or None
        None where the model file does not have that of its source.
    """
    if quality is None or quality.source is None:
        return None
    relation: SourceRelation = "as" if expected.value >= quality.source.low else "below"
    if expected.empty or expected.oversized or expected.foreign:
        relation = "unknown"
    return SourceComparison(relation, quality.source)


@dataclass(frozen=True)
class ExpectedSize:
    """Foreground pixels that an image or a volume is expected to have, of one class.

    Attributes
    ----------
    value, low, high
        The expectation, and its interval of `LEVEL`; NaN where the model has no map.
    """

    value: float
    low: float
    high: float


def label_sums(probabilities: Float, labels: NDArray[np.integer]) -> Sums:
    """`Sums` of an image with probabilities (K, H, W) and labels (H, W) made of them.

    Examples
    --------
    >>> foreground = np.array([[0.1, 0.3, 0.7]])
    >>> label_sums(np.stack([1 - foreground, foreground]), np.array([[0, 0, 1]])).tolist()
    [[1.0, 0.7, 1.1, 3.0]]
    """
    sums = []
    for k, maps in enumerate(probabilities[1:], start=1):
        chosen = labels == k
        sums.append(
            (
                np.count_nonzero(chosen),
                maps.sum(where=chosen, dtype=np.float64),
                maps.sum(dtype=np.float64),
                maps.size,
            )
        )
    return np.array(sums, np.float64)


def sums_of_counts(pixels: NDArray[np.int64], threshold: float) -> Sums:
    """`label_sums` of two classes, from the `step_counts` of the foreground probabilities.

    >>> pixels = np.zeros(STEPS + 1, np.int64)
    >>> pixels[[0, 50, 150]] = 1
    >>> sums_of_counts(pixels, 0.5).tolist()
    [[1.0, 0.7525, 1.005, 3.0]]
    """
    chosen = binarise(np.arange(STEPS + 1), threshold) > 0
    expected = pixels * step_probabilities()
    return np.array([[pixels[chosen].sum(), expected[chosen].sum(), expected.sum(), pixels.sum()]])


def soft_dice(sums: Sums) -> Sums:
    """Soft Dice confidence of each foreground class, in [0, 1]; 0 where nothing is labelled.

    >>> soft_dice(np.array([[10, 8, 10, 100], [0, 0, 3, 100]])).tolist()
    [0.8, 0.0]
    """
    labelled, inside, everywhere, _ = sums.T
    # Resizing may round probabilities to just above 1.
    return np.asarray(np.minimum(2 * inside / np.maximum(labelled + everywhere, 1e-9), 1))


def expected_dice(
    sums: Sums, quality: Quality | None, foreign: Sequence[bool] = ()
) -> ExpectedDice:
    """The Dice that labels are expected to have.

    Parameters
    ----------
    sums
        Of an image, a slice, a stack or a volume.
    quality
        From the card of the model; None: nothing is corrected, and no interval is known.
    foreign
        Of the image or of each slice, see `are_foreign`; most of them decide.

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
    mean = mean_expected(each)
    most = 2 * sum(foreign) > len(foreign)
    return replace(mean, low=0.0, high=1.0, foreign=True) if most else mean


def are_foreign(quality: Quality | None, shifts: Sequence[Shift | None]) -> list[bool]:
    """Whether each image is of another kind than those that the map was fitted to."""
    if quality is None or quality.known is None:
        return [False] * len(shifts)
    return [quality.known.is_foreign(shift) for shift in shifts]


def expected_by_class(
    sums: Sums, quality: Quality | None, classes: Sequence[str]
) -> dict[str, ExpectedDice]:
    """`expected_dice` of each foreground class, by the names of all classes."""
    confidences = soft_dice(sums)
    return {
        name: _of_class(sums[k], confidences[k], None if quality is None else quality.classes[k])
        for k, name in enumerate(classes[1:])
    }


def mean_expected(each: Sequence[ExpectedDice]) -> ExpectedDice:
    """The mean; its interval is that of errors which all go the same way."""
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
    """Foreground pixels that each class is expected to have in an image, a stack or a volume."""
    if quality is None:
        return [ExpectedSize(float(total), math.nan, math.nan) for total in sums[:, 2]]
    return [
        ExpectedSize(
            *(float(total * math.exp(one.size + shift * one.size_margin)) for shift in (0, -1, 1))
        )
        for total, one in zip(sums[:, 2], quality.classes, strict=True)
    ]


def bounded_logit(shares: NDArray[np.floating] | float) -> NDArray[np.float64]:
    """Logits of Dice or confidence, held between `LOWEST` and `HIGHEST`."""
    return np.asarray(logit(np.clip(np.asarray(shares, np.float64), LOWEST, HIGHEST)))


def _of_class(row: Sums, confidence: float, seen: ClassQuality | None) -> ExpectedDice:
    empty = bool(row[0] == 0)
    if seen is None:
        return ExpectedDice(float(confidence), math.nan, math.nan, float(confidence), empty=empty)
    if empty:
        # Its Dice is 1 or 0, and nothing in between.
        low, high = float(seen.empty > LEVEL), float(seen.empty > 1 - LEVEL)
        if seen.empty == 0:  # no empty mask among the validation images: anything is possible
            high = 1.0
        return ExpectedDice(seen.empty, low, high, float(confidence), empty=True)
    at, lowest = float(bounded_logit(confidence)), float(bounded_logit(seen.lowest))
    centre, beyond = seen.slope * at + seen.offset, max(0.0, lowest - at)
    margin = seen.margin + _WIDENING * beyond
    value, low, high = (float(expit(centre + shift)) for shift in (0, -margin, margin))
    oversized = bool(row[0] > _LARGER * seen.largest * row[3])
    return ExpectedDice(
        value, 0.0 if oversized else low, high, float(confidence), beyond > 0, oversized
    )
