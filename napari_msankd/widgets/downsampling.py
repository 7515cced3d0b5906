"""Downsampling of growing series for plots."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


class Growing(Protocol):
    """A series that grows elsewhere; see `src_training.runs.history.Series`.

    Attributes
    ----------
    steps, values
        Lists of equal length.
    """

    steps: list[int]
    values: list[float]


class DownsampledSeries:
    """A copy of a growing series as arrays; each `follow` copies only new points.

    Attributes
    ----------
    length
        Number of points copied.
    """

    def __init__(self) -> None:
        self.length = 0
        self._steps, self._values = np.empty(1024), np.empty(1024)

    def follow(self, series: Growing) -> None:
        """Copy new points; copy all of them again if a resumed run went back."""
        if self.length and not self._is_prefix_of(series):
            self.length = 0
        if len(series.steps) > self.length:
            self._append(series.steps[self.length :], series.values[self.length :])

    def thinned(self, limit: int) -> tuple[Values, Values]:
        """Steps (N,) and values (N,) of at most `limit` points, means of equal bins.

        The last bin may be smaller.
        """
        width = -(-self.length // limit) if self.length else 1
        return _means(self._steps[: self.length], width), _means(self._values[: self.length], width)

    def _is_prefix_of(self, series: Growing) -> bool:
        """Whether the series still starts with the copy; only the copy's last point is compared."""
        last = self.length - 1
        if len(series.steps) <= last:
            return False
        return bool(
            series.steps[last] == self._steps[last] and series.values[last] == self._values[last]
        )

    def _append(self, steps: Sequence[int], values: Sequence[float]) -> None:
        end = self.length + len(steps)
        if end > len(self._steps):
            room = np.empty(2 * end - len(self._steps))
            self._steps = np.concatenate([self._steps, room])
            self._values = np.concatenate([self._values, room])
        self._steps[self.length : end] = steps
        self._values[self.length : end] = values
        self.length = end


def _means(values: Values, width: int) -> Values:
    whole = len(values) // width * width
    means = values[:whole].reshape(-1, width).mean(1)
    return means if whole == len(values) else np.append(means, values[whole:].mean())
