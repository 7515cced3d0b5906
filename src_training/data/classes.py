"""From the values a mask file stores to class indices, by name."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_training.errors import InputError

BACKGROUND = "background"
BINARY = (BACKGROUND, "foreground")
_MOST_CLASSES = 32


@dataclass(frozen=True)
class ClassValues:
    """Which stored values belong to which class.

    Attributes
    ----------
    names
        Class names; the first is ``background``.
    values
        Stored values of each class, or None for "foreground is what is not 0".
    """

    names: tuple[str, ...]
    values: tuple[tuple[int, ...], ...] | None = None

    @classmethod
    def given(cls, class_values: Mapping[str, int | list[int]]) -> "ClassValues":
        """The mapping a person wrote; 0 is background unless they say otherwise.

        Raises
        ------
        InputError
            If no class but background is named, or two classes share a value.
        """
        lists = {
            name: (value,) if isinstance(value, int) else tuple(value)
            for name, value in class_values.items()
        }
        background = lists.pop(BACKGROUND, (0,))
        names, values = (BACKGROUND, *lists), (background, *lists.values())
        every = [value for part in values for value in part]
        if not lists or len(set(every)) != len(every) or not all(values):
            raise InputError(
                f"class values are {dict(class_values)}; expected a class beside background, "
                "and values of its own for each (0 is background unless said otherwise)"
            )
        return cls(names, values)

    @classmethod
    def guessed(cls, values: Iterable[int]) -> "ClassValues":
        """The mapping when none is given.

        Values 0, 1, ..., n with n from 2 to 32 are classes of their own; any
        others mean background (0) and foreground (the rest).
        """
        highest = max(values := {0, *values})
        if 2 <= highest <= _MOST_CLASSES and values == set(range(highest + 1)):
            names = (BACKGROUND, *(f"class_{index}" for index in range(1, highest + 1)))
            return cls(names, tuple((index,) for index in range(highest + 1)))
        return cls(BINARY)

    @classmethod
    def identity(cls, names: tuple[str, ...]) -> "ClassValues":
        """Masks that hold indices into `names` already."""
        return cls(names, tuple((index,) for index in range(len(names))))

    def unknown(self, values: Iterable[int]) -> list[int]:
        """Those of `values` that belong to no class."""
        if self.values is None:
            return []
        known = {value for part in self.values for value in part}
        return sorted(set(values) - known)

    def check(self, values: Iterable[int], file: Path) -> None:
        """Raise InputError, naming `file`, if a value belongs to no class."""
        if unknown := self.unknown(values):
            raise InputError(
                f"{file} holds the value {_listed(unknown)}; expected only {self._mapping()}"
            )

    def indices(self, mask: NDArray[Any]) -> NDArray[np.uint8]:
        """Class indices (H, W) uint8 of stored values (H, W); unknown values are background."""
        if self.values is None:
            return np.asarray(mask != 0, np.uint8)
        classes = np.zeros(mask.shape, np.uint8)
        for index, values in enumerate(self.values):
            classes[np.isin(mask, values)] = index
        return classes

    def has_foreground(self, values: Iterable[int]) -> bool:
        """Whether any of `values` belongs to a class other than background."""
        background = (0,) if self.values is None else self.values[0]
        return any(value not in background for value in values)

    def said(self, values: Iterable[int]) -> str:
        """The mapping in words: ``values 0, 255 -> background, foreground``."""
        found = sorted(values)
        if self.values is None and len(found) > 2:
            return f"values {_listed(found)} -> 0 is background, all others are foreground"
        if self.values is None:
            names = [BINARY[value != 0] for value in found]
        else:
            index = {value: i for i, part in enumerate(self.values) for value in part}
            names = [self.names[index[value]] for value in found]
        return f"values {_listed(found)} -> {', '.join(names)}"

    def _mapping(self) -> str:
        parts = zip(self.names, self.values or (), strict=True)
        return ", ".join(f"{_listed(values)} ({name})" for name, values in parts)


def _listed(values: Iterable[int]) -> str:
    every = list(values)
    shown = ", ".join(str(value) for value in every[:8])
    return shown if len(every) <= 8 else f"{shown}, ... {every[-1]} ({len(every)} values)"
