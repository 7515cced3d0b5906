"""Expected Dice of a result, by slice and by class: values, text and JSON."""

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
"""Number of slices that decide whether a volume is foreign; the same as in the engine."""

_BATCH = 64
"""Number of slices between two points at which the worker can be stopped."""


@dataclass(frozen=True)
class ResultQuality:
    """Expected Dice of a result; *foreign* means unlike the model's validation images.

    Attributes
    ----------
    whole
        Expected Dice of all complete slices; with several foreground classes, their mean.
    classes
        Name -> expected Dice of each foreground class.
    slices
        Index in the image -> expected Dice of the slice; empty for a single image.
    source
        Comparison of `whole` with the model's validation images; None if unknown.
    scanner
        Word for the device that took the images, for messages.
    """

    whole: "ExpectedDice"
    classes: "dict[str, ExpectedDice]"
    slices: "dict[Index, ExpectedDice]" = field(default_factory=dict)
    source: "SourceComparison | None" = None
    scanner: str = "scanner"

    def record(self) -> dict[str, Any]:
        """JSON values for the metadata of the layer; see `provenance`."""
        classes = {name: _as_json(dice) for name, dice in self.classes.items()}
        return {
            "expected_dice": _as_json(self.whole),
            "expected_dice_of_classes": classes,
            "expected_dice_of_slices": [_as_json(dice) for dice in self.slices.values()],
        }

    def features(self) -> dict[str, list[float]]:
        """Columns for the features of the layer, a row for each class, background included."""
        titles = {"value": "expected Dice", "low": "expected Dice, low"}
        titles["high"] = "expected Dice, high"
        return {
            title: [math.nan, *(_value_or_nan(dice, name) for dice in self.classes.values())]
            for name, title in titles.items()
        }


def quality_of(
    whole: "ExpectedDice",
    sums: NDArray[np.float64],
    quality: "Quality | None",
    names: Sequence[str],
) -> ResultQuality:
    """Expected Dice of labels by class; a foreign whole makes every class foreign.

    Parameters
    ----------
    whole
        Expected Dice of the labels.
    sums
        Their `label_sums`.
    quality
        Quality field of the model card.
    names
        Names of the classes, background first.
    """
    from src_training.inference.expected_dice import expected_by_class

    classes = expected_by_class(sums, quality, names)
    if whole.foreign:
        unknown = {"low": 0.0, "high": 1.0, "foreign": True}
        classes = {name: replace(dice, **unknown) for name, dice in classes.items()}
    return ResultQuality(whole, classes)


def assess(
    result: Result, slices: Mapping[Index, Index], model: ModelInfo, volume: bool = False
) -> Iterator[ResultQuality | None]:
    """Compute the expected Dice of a result; yields None regularly, so that it can be stopped.

    It is about the model's labels at the current threshold, not about edits by the user.

    Parameters
    ----------
    result
        Probabilities of the result.
    slices
        Complete slices: index in the image -> index in the result.
    model
        The model.
    volume
        Whether the slices are one object. Then the slices with the most foreground decide
        whether it is unlike the validation images.
    """
    from src_training.inference.expected_dice import compare_with_source, expected_dice

    sums = {index: result.sums(place) for index, place in slices.items()}
    total = np.sum(list(sums.values()), axis=0)
    by_slice: dict[Index, ExpectedDice] = {}
    for number, (index, part) in enumerate(sums.items()):
        if index:
            by_slice[index] = expected_dice(part, model.quality, [slices[index] in result.foreign])
        if number % _BATCH == 0:
            yield None
    decisive = sorted(sums, key=lambda index: -sums[index][:, 0].sum())
    decisive = decisive[:_DECISIVE] if volume else decisive
    foreign = [slices[index] in result.foreign for index in decisive]
    whole = expected_dice(total, model.quality, foreign)
    quality = quality_of(whole, total, model.quality, model.classes)
    source = compare_with_source(whole, model.quality)
    scanner = "scanner" if model.angle is None else "camera"
    yield replace(quality, slices=by_slice, source=source, scanner=scanner)


def slice_curve(
    quality: ResultQuality | None, dice: Mapping[Index, float], stack: tuple[int, ...]
) -> SliceCurve | None:
    """Values for the plot of slices; None for fewer than two slices.

    Parameters
    ----------
    quality
        Expected Dice of the result.
    dice
        Index in the image -> real Dice of the slice.
    stack
        Number of slices of the image along each axis of slices.
    """
    if quality is None or len(quality.slices) < 2:
        return None
    indices = sorted(quality.slices)
    at = [int(np.ravel_multi_index(index, stack)) for index in indices]
    ordered = [quality.slices[index] for index in indices]
    expected, low, high = (
        tuple(_value_or_nan(dice, name) for dice in ordered) for name in ("value", "low", "high")
    )
    real = tuple(dice.get(index, math.nan) for index in indices)
    return SliceCurve(tuple(indices), tuple(at), expected, low, high, real)


def expected_text(quality: ResultQuality) -> str:
    """Message about the expected Dice, and the slices to check."""
    whole, slices = quality.whole, quality.slices
    text = f"Expected Dice {_with_interval(whole)}"
    compared = quality.source.phrase(quality.scanner) if quality.source is not None else ""
    if whole.remark:
        text += f": {whole.remark}. Check this one."
    elif compared:
        below = quality.source is not None and quality.source.relation == "below"
        text += f"{': check this one' if below else ''}, {compared}"
    if len(quality.classes) > 1 and not whole.foreign:
        by_class = (f"{name} {_interval(dice)}" for name, dice in quality.classes.items())
        text += f"\n{' · '.join(by_class)}"
    doubtful = [index for index, dice in slices.items() if dice.remark and not dice.empty]
    if doubtful:
        text += f"\nCheck slices {_slices_text(doubtful)}: unlike any validation image"
    elif slices:
        worst = min(slices, key=lambda index: (slices[index].empty, slices[index].value))
        if not slices[worst].empty:
            text += f"\nLowest in slice {_slices_text([worst])}: {_with_interval(slices[worst])}"
    return text


def _value_or_nan(expected: "ExpectedDice", name: str) -> float:
    """An attribute of an expected Dice; NaN for a foreign image."""
    return math.nan if expected.foreign else float(getattr(expected, name))


def _as_json(expected: "ExpectedDice") -> dict[str, Any]:
    """JSON values; a foreign image has no value."""
    return expected.to_dict() | ({"value": None} if expected.foreign else {})


def _slices_text(indices: list[Index]) -> str:
    """Slices as ranges; listed one by one if they have several axes."""
    if len(indices[0]) == 1:
        return span_text([number for (number,) in indices])
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
