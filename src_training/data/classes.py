"""Classes of masks: mapping of the values in a mask file to class indices."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_training.errors import InputError
from src_training.io.masks import (
    MaskValues,
    is_piecewise_constant,
    is_two_valued,
    object_centers,
)

BACKGROUND = "background"
BINARY = (BACKGROUND, "foreground")
_MAX_CLASSES = 32
_FEWEST_OBJECTS = 5
_CONTRAST = 64
"""Smallest difference of two integer values for values in between to count as noise."""

_INVERTED = 0.75
"""Smallest share of foreground for a note that masks may be inverted."""

_FEW = 8
"""Largest number of different values for which the mask is not tested for being a picture."""

_SHOWN = 5
_NAME_THEM = "name them by class_values in the recipe, or by --class"


@dataclass(frozen=True)
class ClassValues:
    """Mapping of the values stored in masks to classes.

    Attributes
    ----------
    names
        Class names; the first is ``background``.
    values
        Stored values of each class; None if every value except 0, or every value
        above `threshold`, is foreground.
    threshold
        Threshold of the foreground; None without one.

    Examples
    --------
    >>> import numpy as np
    >>> organs = ClassValues.from_mapping({"liver": 63, "kidney": [126, 189]})
    >>> organs.names
    ('background', 'liver', 'kidney')
    >>> organs.indices(np.array([[0, 63], [126, 189]])).tolist()
    [[0, 1], [2, 2]]
    """

    names: tuple[str, ...]
    values: tuple[tuple[int, ...], ...] | None = None
    threshold: float | None = None

    @classmethod
    def from_mapping(cls, class_values: Mapping[str, int | list[int]]) -> "ClassValues":
        """Build the mapping from class names and their values, as in a recipe.

        Background is 0, unless there are values for ``background``.

        Raises
        ------
        InputError
            If there is no class except background, or two classes share a value.
        """
        values_of = {
            name: (value,) if isinstance(value, int) else tuple(value)
            for name, value in class_values.items()
        }
        background = values_of.pop(BACKGROUND, (0,))
        names, values = (BACKGROUND, *values_of), (background, *values_of.values())
        flat = [value for part in values for value in part]
        if not values_of or len(set(flat)) != len(flat) or not all(values):
            raise InputError(
                f"class values are {dict(class_values)}; expected a class beside background, "
                "and values of its own for each (0 is background if it has none)"
            )
        return cls(names, values)

    @classmethod
    def infer(cls, values: Iterable[float]) -> "ClassValues":
        """Infer the classes from the stored values of all masks.

        Values 0, 1, ..., n with n from 2 to 32 are separate classes. Otherwise 0
        is background, and all other values are foreground.

        Examples
        --------
        >>> ClassValues.infer([0, 1, 2]).names
        ('background', 'class_1', 'class_2')
        >>> ClassValues.infer([0, 255]).names
        ('background', 'foreground')
        """
        highest = int(max(values := {0, *values}))
        if 2 <= highest <= _MAX_CLASSES and values == set(range(highest + 1)):
            names = (BACKGROUND, *(f"class_{index}" for index in range(1, highest + 1)))
            return cls(names, tuple((index,) for index in range(highest + 1)))
        return cls(BINARY)

    @classmethod
    def identity(cls, names: tuple[str, ...]) -> "ClassValues":
        """Classes of masks that store indices into `names`."""
        return cls(names, tuple((index,) for index in range(len(names))))

    def unknown(self, values: Iterable[float]) -> list[float]:
        """Return the values that belong to no class, ascending."""
        if self.values is None:
            return []
        known = {value for part in self.values for value in part}
        return sorted(set(values) - known)

    def refusal(self, values: Iterable[float], name: str) -> str:
        """Return the error for a mask with values of no class; empty if it has none."""
        if unknown := self.unknown(values):
            expected = self._format_mapping()
            return f"{name} holds the value {_join(unknown)}; expected only {expected}"
        return ""

    def indices(self, mask: NDArray[Any]) -> NDArray[np.uint8]:
        """Convert stored values (H, W) to class indices (H, W) uint8; unknown values become 0."""
        if self.values is None:
            foreground = mask != 0 if self.threshold is None else mask > self.threshold
            return np.asarray(foreground, np.uint8)
        classes = np.zeros(mask.shape, np.uint8)
        for index, values in enumerate(self.values):
            classes[np.isin(mask, values)] = index
        return classes

    def has_foreground(self, values: Iterable[float]) -> bool:
        """Return whether any of `values` belongs to a class other than background."""
        if self.threshold is not None:
            return any(value > self.threshold for value in values)
        background = (0,) if self.values is None else self.values[0]
        return any(value not in background for value in values)

    def describe(self, values: Iterable[float]) -> str:
        """Describe the class of each of `values`.

        Examples
        --------
        >>> ClassValues.infer([0, 255]).describe([0, 255])
        'values 0, 255 -> background, foreground'
        """
        ordered = sorted(values)
        if self.threshold is not None:
            return f"values {_join(ordered)} -> above {self.threshold:g} is foreground"
        if self.values is None and len(ordered) > 2:
            return f"values {_join(ordered)} -> 0 is background, all others are foreground"
        if self.values is None:
            names = [BINARY[value != 0] for value in ordered]
        else:
            index: dict[float, int] = {v: i for i, part in enumerate(self.values) for v in part}
            names = [self.names[index[value]] for value in ordered]
        return f"values {_join(ordered)} -> {', '.join(names)}"

    def _format_mapping(self) -> str:
        parts = zip(self.names, self.values or (), strict=True)
        return ", ".join(f"{_join(values)} ({name})" for name, values in parts)


@dataclass(frozen=True)
class StoredMask:
    """A mask whose classes are not known yet.

    Attributes
    ----------
    name
        Name in messages, such as ``masks/01.png``.
    values
        Values in the mask, with their counts.
    read
        Function that reads the mask again: (H, W) or (Z, H, W).
    """

    name: str
    values: MaskValues
    read: Callable[[], NDArray[Any]]


@dataclass(frozen=True)
class MaskReading:
    """Interpretation of the values in all masks of a domain.

    Attributes
    ----------
    classes
        Mapping of stored values to class indices.
    notes
        Sentences for the user about the interpretation; empty for plain labels.
    problems
        Name of a mask that does not contain labels -> error.
    other_values
        `class_values` of the plausible alternative (objects as classes, classes as
        objects, or inverted); None without one.
    """

    classes: ClassValues
    notes: tuple[str, ...] = ()
    problems: Mapping[str, str] = field(default_factory=dict)
    other_values: dict[str, int | list[int]] | None = None


def read_classes(
    masks: Sequence[StoredMask], class_values: Mapping[str, int | list[int]] | None = None
) -> MaskReading:
    """Determine the classes of the masks of a domain.

    Values 0, 1, ..., n with n from 2 to 32 are separate classes, unless they number
    objects. Two values with compression noise or grey edges are separated by a
    threshold. Otherwise all values except 0 are foreground.

    Parameters
    ----------
    masks
        All masks of the domain.
    class_values
        See `Domain.from_folder`; a mask with any other value is a problem.

    Examples
    --------
    >>> import numpy as np
    >>> labels = np.full((20, 20), 200, np.uint8)
    >>> labels[:, :9], labels[::2, 9], labels[1::2, 9] = 0, 90, 70
    >>> reading = read_classes([StoredMask("a", MaskValues.of(labels), lambda: labels)])
    >>> reading.classes.names, reading.classes.indices(labels)[0, 8:11].tolist()
    (('background', 'foreground'), [0, 0, 1])
    """
    if class_values is not None:
        classes = ClassValues.from_mapping(class_values)
        return MaskReading(classes, _part_notes(masks), _unknown_values(masks, classes))
    values = {value for mask in masks for value in mask.values.values}
    reading = _read_plain(masks, values) or _read_two_valued(masks, values)
    reading = reading or _read_merged(masks, values)
    shares = () if reading.problems else _share_notes(masks, reading.classes)
    notes = (*_part_notes(masks), *reading.notes, *shares)
    other = reading.other_values
    stored = sorted(int(value) for value in values if _is_integer(value))
    if shares and other is None and len(stored) == len(values) == 2:
        other = {BACKGROUND: stored[1], BINARY[1]: stored[0]}
    return replace(reading, notes=notes, other_values=other)


def _read_plain(masks: Sequence[StoredMask], values: set[float]) -> MaskReading | None:
    """Read masks as plain labels; None if they do not look like labels."""
    if not {0, *values} - {0, max(values, default=0)} and all(map(_is_integer, values)):
        return MaskReading(ClassValues.infer(values))
    if len(values) == 2 and 0 not in values:
        low, high = sorted(values)
        if any(mask.values.values == (low, high) for mask in masks):
            note = f"The masks hold {low:g} and {high:g}, and no 0: {high:g} is foreground."
            return MaskReading(ClassValues(BINARY, None, (low + high) / 2), (note,))
    classes = ClassValues.infer(values)
    if classes.values is None or any(mask.values.lossy for mask in masks):
        return None
    if len(values - {0}) < _FEWEST_OBJECTS:
        return MaskReading(classes)
    centers = [centers for mask in masks if (centers := object_centers(mask.read())) is not None]
    if len(centers) < len(masks):
        return MaskReading(classes)
    found = f"In every mask each of the numbers 1 to {max(values):g} is one region"
    if _lie_anywhere(centers):
        note = (
            f"{found}, which looks like numbered objects: they are read as one class, any value "
            f"but 0. If the numbers are classes, {_NAME_THEM}."
        )
        return MaskReading(ClassValues(BINARY), (note,), other_values=_each_a_class(values))
    note = (
        f"{found}, at much the same place: they are read as {len(classes.names) - 1} classes. If "
        "they number objects, name one class of all these values by class_values in the recipe, "
        "or by --class."
    )
    one = {BINARY[1]: sorted(int(value) for value in values if value)}
    return MaskReading(classes, (note,), other_values={**one})


def _each_a_class(values: set[float]) -> dict[str, int | list[int]]:
    return {f"class_{value:g}": int(value) for value in sorted(values) if value}


def _read_two_valued(masks: Sequence[StoredMask], values: set[float]) -> MaskReading | None:
    """Read masks as two values with noise or grey edges; None if half of the masks do not fit."""
    low, high = min(values), max(values)
    lossy = any(mask.values.lossy for mask in masks)
    integers = all(map(_is_integer, values))
    if len(values) < 4 or (integers and high - low < _CONTRAST):
        return None
    many = lossy or len(values) > _FEW
    unfit = [
        mask
        for mask in masks
        if set(mask.values.values) - {low, high} and not is_two_valued(mask.read(), low, high, many)
    ]
    if 2 * len(unfit) >= len(masks):
        return None
    threshold = float((low + high) // 2) if integers else (low + high) / 2
    why = "noise of a lossy compression" if lossy else "grey edges or noise"
    note = (
        f"The masks hold {len(values):,} values from {low:g} to {high:g}, two and {why}: above "
        f"{threshold:g} is foreground."
    )
    problems = {mask.name: _no_labels(mask) for mask in unfit}
    return MaskReading(ClassValues(BINARY, None, threshold), (note,), problems)


def _read_merged(masks: Sequence[StoredMask], values: set[float]) -> MaskReading:
    """Read all values except 0 as foreground; a mask that looks like a picture is a problem."""
    classes = ClassValues(BINARY)
    problems = {
        mask.name: _no_labels(mask)
        for mask in masks
        if _is_no_labels(mask, len(mask.values.values) > _FEW)
    }
    if len(problems) == len(masks):
        return MaskReading(classes, (), problems)
    if len(values) > _MAX_CLASSES:
        note = (
            f"The masks hold {len(values):,} values from {min(values):g} to {max(values):g}, as "
            "numbered objects do: they are read as one class, any value but 0."
        )
    else:
        note = f"The masks hold {classes.describe(values)}."
    few = len(values - {0}) < _MAX_CLASSES and not problems
    other = _each_a_class(values) if few else None
    notes = (f"{note} If they are classes, {_NAME_THEM}.",)
    return MaskReading(classes, notes, problems, other)


def _is_no_labels(mask: StoredMask, many: bool) -> bool:
    if mask.values.lossy and len(mask.values.values) > 2:
        return True
    if not all(map(_is_integer, mask.values.values)):
        return True
    return many and not is_piecewise_constant(mask.read())


def _no_labels(mask: StoredMask) -> str:
    """Format the error for a mask without labels, with its most frequent values."""
    counts = sorted(zip(mask.values.counts, mask.values.values, strict=True), reverse=True)
    listed = ", ".join(f"{value:g} ({count:,} px)" for count, value in counts[:_SHOWN])
    low, high = mask.values.values[0], mask.values.values[-1]
    lossy = " after a lossy compression" if mask.values.lossy else ""
    return (
        f"{mask.name} holds {low:g} to {high:g}, {len(counts):,} different values{lossy}: mostly "
        f"{listed}; expected labels: two values far apart, or 0, 1, 2… in a lossless format"
    )


def _unknown_values(masks: Sequence[StoredMask], classes: ClassValues) -> dict[str, str]:
    return {
        mask.name: sentence
        for mask in masks
        if (sentence := classes.refusal(mask.values.values, mask.name))
    }


def _part_notes(masks: Sequence[StoredMask]) -> tuple[str, ...]:
    parts = Counter(mask.values.part for mask in masks if mask.values.part)
    return tuple(
        f"The labels of {count:,} of {len(masks):,} masks are read from the {part}."
        for part, count in parts.items()
    )


def _share_notes(masks: Sequence[StoredMask], classes: ClassValues) -> tuple[str, ...]:
    """Note that masks may be inverted if most pixels are foreground."""
    if len(classes.names) > 2:
        return ()
    total = foreground = 0
    for mask in masks:
        for value, count in zip(mask.values.values, mask.values.counts, strict=True):
            total += count
            foreground += count if classes.has_foreground([value]) else 0
    if not total or foreground < _INVERTED * total:
        return ()
    return (
        f"Foreground covers {foreground / total:.0%} of the masks. If they are inverted, name the "
        "values of background and foreground by class_values in the recipe, or by --class.",
    )


def _lie_anywhere(masks: Iterable[Mapping[int, tuple[float, ...]]]) -> bool:
    """Whether the centre of each value differs between masks, as for numbered objects.

    A class, such as an organ or a layer, is at a similar position in all masks.
    """
    places = dict[int, list[tuple[float, ...]]]()
    for centers in masks:
        for value, center in centers.items():
            places.setdefault(value, []).append(center)
    repeated = [np.array(positions) for positions in places.values() if len(positions) > 1]
    if not repeated:
        return True
    total_variance = np.concatenate(repeated).var(0).sum()
    variance_within = np.mean([positions.var(0, ddof=1).sum() for positions in repeated])
    return bool(variance_within >= 0.5 * total_variance)


def _is_integer(value: float) -> bool:
    return float(value).is_integer()


def _join(values: Iterable[float]) -> str:
    """Join values by commas; of more than eight, only the first eight and the last."""
    ordered = list(values)
    first = ", ".join(f"{value:.6g}" for value in ordered[:8])
    return first if len(ordered) <= 8 else f"{first}, ... {ordered[-1]:.6g} ({len(ordered)} values)"
