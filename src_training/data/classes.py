"""Named classes: which values of a mask file belong to which class index."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_training.errors import InputError

BACKGROUND = "background"
BINARY = (BACKGROUND, "foreground")
_MAX_CLASSES = 32


@dataclass(frozen=True)
class ClassValues:
    """Which stored values belong to which class.

    Attributes
    ----------
    names
        Class names; the first is ``background``.
    values
        Stored values of each class; None if every value but 0 is foreground.

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

    @classmethod
    def from_mapping(cls, class_values: Mapping[str, int | list[int]]) -> "ClassValues":
        """Take class names with their values, as a recipe has them.

        Background is 0, unless the mapping names values of ``background``.

        Raises
        ------
        InputError
            If no class but background is named, or two classes share a value.
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
    def infer(cls, values: Iterable[int]) -> "ClassValues":
        """Infer the classes from the stored values of all masks.

        Values 0, 1, ..., n with n from 2 to 32 are classes of their own; with
        any others 0 is background and the rest is foreground.

        Examples
        --------
        >>> ClassValues.infer([0, 1, 2]).names
        ('background', 'class_1', 'class_2')
        >>> ClassValues.infer([0, 255]).names
        ('background', 'foreground')
        """
        highest = max(values := {0, *values})
        if 2 <= highest <= _MAX_CLASSES and values == set(range(highest + 1)):
            names = (BACKGROUND, *(f"class_{index}" for index in range(1, highest + 1)))
            return cls(names, tuple((index,) for index in range(highest + 1)))
        return cls(BINARY)

    @classmethod
    def identity(cls, names: tuple[str, ...]) -> "ClassValues":
        """Classes of masks that store indices into `names`."""
        return cls(names, tuple((index,) for index in range(len(names))))

    def unknown(self, values: Iterable[int]) -> list[int]:
        """Return those of `values` that belong to no class, rising."""
        if self.values is None:
            return []
        known = {value for part in self.values for value in part}
        return sorted(set(values) - known)

    def check(self, values: Iterable[int], file: Path) -> None:
        """Check that every value belongs to a class.

        Raises
        ------
        InputError
            If one does not; names `file`.
        """
        if unknown := self.unknown(values):
            raise InputError(
                f"{file} holds the value {_join(unknown)}; expected only {self._format_mapping()}"
            )

    def indices(self, mask: NDArray[Any]) -> NDArray[np.uint8]:
        """Turn stored values (H, W) into class indices (H, W) uint8; unknown values are 0."""
        if self.values is None:
            return np.asarray(mask != 0, np.uint8)
        classes = np.zeros(mask.shape, np.uint8)
        for index, values in enumerate(self.values):
            classes[np.isin(mask, values)] = index
        return classes

    def has_foreground(self, values: Iterable[int]) -> bool:
        """Return whether any of `values` belongs to a class other than background."""
        background = (0,) if self.values is None else self.values[0]
        return any(value not in background for value in values)

    def describe(self, values: Iterable[int]) -> str:
        """Describe which of `values` belong to which class.

        Examples
        --------
        >>> ClassValues.infer([0, 255]).describe([0, 255])
        'values 0, 255 -> background, foreground'
        """
        ordered = sorted(values)
        if self.values is None and len(ordered) > 2:
            return f"values {_join(ordered)} -> 0 is background, all others are foreground"
        if self.values is None:
            names = [BINARY[value != 0] for value in ordered]
        else:
            index = {value: i for i, part in enumerate(self.values) for value in part}
            names = [self.names[index[value]] for value in ordered]
        return f"values {_join(ordered)} -> {', '.join(names)}"

    def _format_mapping(self) -> str:
        parts = zip(self.names, self.values or (), strict=True)
        return ", ".join(f"{_join(values)} ({name})" for name, values in parts)


def _join(values: Iterable[int]) -> str:
    """Values separated by commas; of more than eight, the first eight and the last."""
    ordered = list(values)
    first = ", ".join(str(value) for value in ordered[:8])
    return first if len(ordered) <= 8 else f"{first}, ... {ordered[-1]} ({len(ordered)} values)"
