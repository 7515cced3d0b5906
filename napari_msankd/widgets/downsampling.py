"""Growing series, thinned to what a plot can show."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


class Growing(Protocol):
    """A series that someone else appends to; see `src_training.runs.history.Series`.

    Attributes
    ----------
    steps, values
        As many of either.
    """

    steps: list[int]
    values: list[float]


class DownsampledSeries:
    """A copy of a growing series as arrays; each `follow` takes only what is new.

    Attributes
    ----------
    length
        Steps taken.
    """

    def __init__(self) -> None:
        self.length = 0
        self._steps, self._values = np.empty(1024), np.empty(1024)

    def follow(self, series: Growing) -> None:
        """Take what was appended; all of it where a resumed run went back."""
        if self.length and not self._begins(series):
            self.length = 0
        if len(series.steps) > self.length:
            self._append(series.steps[self.length :], series.values[self.length :])

    def thinned(self, limit: int) -> tuple[Values, Values]:
        """At most `limit` points (N,), (N,): means of equal numbers of steps.

        The last point is a mean of what is left over.
        """
        width = -(-self.length // limit) if self.length else 1
        return _means(self._steps[: self.length], width), _means(self._values[: self.length], width)

    def _begins(self, series: Growing) -> bool:
        """Whether the series still begins with what was taken, as its end there tells."""
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
