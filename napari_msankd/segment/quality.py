"""How good a result is expected to be, by slice and by class: figures, text and plain values."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_msankd.planes import Index
from napari_msankd.segment.inference import ModelInfo
from napari_msankd.segment.probability_store import Result
from napari_msankd.segment.state import SliceCurve, span_text

if TYPE_CHECKING:
    from src_training.inference.expected_dice import ExpectedDice, Quality, SourceComparison

_DECISIVE = 3
"""Slices of a volume that decide whether it is of another kind, as the engine has it."""

_BATCH = 64
"""Slices that are assessed between two looks at whether to go on."""


@dataclass(frozen=True)
class ResultQuality:
    """Expected Dice of a result.

    Attributes
    ----------
    whole
        Of all complete slices together; with several foreground classes, their mean.
    classes
        Of each foreground class, by name.
    slices
        Of each slice, by its index in the image; empty for a single image.
    source
        How `whole` compares with the model's own validation images; None if that is unknown.
    scanner
        What took them.
    """

    whole: "ExpectedDice"
    classes: "dict[str, ExpectedDice]"
    slices: "dict[Index, ExpectedDice]" = field(default_factory=dict)
    source: "SourceComparison | None" = None
    scanner: str = "scanner"

    def record(self) -> dict[str, Any]:
        """Plain values for the metadata of the layer; see `provenance`."""
        return {
            "expected_dice": _plain(self.whole),
            "expected_dice_of_classes": {name: _plain(one) for name, one in self.classes.items()},
            "expected_dice_of_slices": [_plain(one) for one in self.slices.values()],
        }

    def features(self) -> dict[str, list[float]]:
        """Columns of the features of the layer, a row for each class with the background."""
        titles = {"value": "expected Dice", "low": "expected Dice, low"}
        titles["high"] = "expected Dice, high"
        return {
            title: [math.nan, *(_known(one, name) for one in self.classes.values())]
            for name, title in titles.items()
        }


def quality_of(
    whole: "ExpectedDice",
    sums: NDArray[np.float64],
    quality: "Quality | None",
    names: Sequence[str],
) -> ResultQuality:
    """That of labels by class; what is of another kind as a whole is so in every class.

    Parameters
    ----------
    whole
        Of the labels.
    sums
        Their `label_sums`.
    quality
        From the card of the model.
    names
        Of its classes, background first.
    """
    from src_training.inference.expected_dice import expected_by_class

    classes = expected_by_class(sums, quality, names)
    if whole.foreign:
        unknown = {"low": 0.0, "high": 1.0, "foreign": True}
        classes = {name: replace(one, **unknown) for name, one in classes.items()}
    return ResultQuality(whole, classes)


def assess(
    result: Result, slices: Mapping[Index, Index], model: ModelInfo, volume: bool = False
) -> Iterator[ResultQuality | None]:
    """The expected Dice of a result; None now and then, so that it can be stopped.

    It is that of the model's labels at the present threshold: a person's paint does not count.

    Parameters
    ----------
    result
        Has the probabilities.
    slices
        Complete slices: index in the image -> index in the result.
    model
        What made it.
    volume
        Whether the slices are those of one thing: the ones on which most is labelled decide
        whether it is of another kind than what the model was validated on.
    """
    from src_training.inference.expected_dice import compare_with_source, expected_dice

    sums = {index: result.sums(place) for index, place in slices.items()}
    total = np.sum(list(sums.values()), axis=0)
    each: dict[Index, ExpectedDice] = {}
    for number, (index, part) in enumerate(sums.items()):
        if index:
            each[index] = expected_dice(part, model.quality, [slices[index] in result.foreign])
        if number % _BATCH == 0:
            yield None
    decide = sorted(sums, key=lambda index: -sums[index][:, 0].sum())
    decide = decide[:_DECISIVE] if volume else decide
    foreign = [slices[index] in result.foreign for index in decide]
    whole = expected_dice(total, model.quality, foreign)
    found = quality_of(whole, total, model.quality, model.classes)
    source = compare_with_source(whole, model.quality)
    scanner = "scanner" if model.angle is None else "camera"
    yield replace(found, slices=each, source=source, scanner=scanner)


def slice_curve(
    quality: ResultQuality | None, dice: Mapping[Index, float], stack: tuple[int, ...]
) -> SliceCurve | None:
    """What the plot of slices shows; None where there are not two slices.

    Parameters
    ----------
    quality
        Of the result.
    dice
        Real Dice of slices, by their index in the image.
    stack
        How many slices the image has along each axis of slices.
    """
    if quality is None or len(quality.slices) < 2:
        return None
    indices = sorted(quality.slices)
    at = [int(np.ravel_multi_index(index, stack)) for index in indices]
    ordered = [quality.slices[index] for index in indices]
    value, low, high = (
        tuple(_known(one, name) for one in ordered) for name in ("value", "low", "high")
    )
    real = tuple(dice.get(index, math.nan) for index in indices)
    return SliceCurve(tuple(indices), tuple(at), value, low, high, real)


def expected_text(quality: ResultQuality) -> str:
    """What Dice the labels are expected to have, and which slices to check."""
    whole, slices = quality.whole, quality.slices
    text = f"Expected Dice {_with_interval(whole)}"
    compared = quality.source.phrase(quality.scanner) if quality.source is not None else ""
    if whole.remark:
        text += f": {whole.remark}. Check this one."
    elif compared:
        below = quality.source is not None and quality.source.relation == "below"
        text += f"{': check this one' if below else ''}, {compared}"
    if len(quality.classes) > 1 and not whole.foreign:
        each = (f"{name} {_interval(one)}" for name, one in quality.classes.items())
        text += f"\n{' · '.join(each)}"
    doubtful = [at for at, one in slices.items() if one.remark and not one.empty]
    if doubtful:
        text += f"\nCheck slices {_listed(doubtful)}: unlike any validation image"
    elif slices:
        worst = min(slices, key=lambda at: (slices[at].empty, slices[at].value))
        if not slices[worst].empty:
            text += f"\nLowest in slice {_listed([worst])}: {_with_interval(slices[worst])}"
    return text


def _known(expected: "ExpectedDice", name: str) -> float:
    """A figure of it; NaN where nothing can be expected."""
    return math.nan if expected.foreign else float(getattr(expected, name))


def _plain(expected: "ExpectedDice") -> dict[str, Any]:
    """Values for JSON; the value of what is of another kind stands for nothing."""
    return expected.to_dict() | ({"value": None} if expected.foreign else {})


def _listed(indices: list[Index]) -> str:
    """Slices as spans, or those of several axes one by one."""
    if len(indices[0]) == 1:
        return span_text([at for (at,) in indices])
    texts = ["(" + ", ".join(map(str, index)) + ")" for index in indices]
    return ", ".join([*texts[:3], "…"] if len(texts) > 4 else texts)


def _with_interval(expected: "ExpectedDice") -> str:
    if expected.foreign:
        return "cannot be told"
    if math.isnan(expected.low):
        return f"{expected.value:.2f} (this model file tells no interval)"
    return _interval(expected)


def _interval(expected: "ExpectedDice") -> str:
    if math.isnan(expected.low):
        return f"{expected.value:.2f}"
    return f"{expected.value:.2f} ({expected.low:.2f}–{expected.high:.2f})"
