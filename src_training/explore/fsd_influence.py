"""Which images push a domain away: those to look at, and to annotate, first."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from src_training.errors import InputError
from src_training.explore.embedding_table import EmbeddingTable
from src_training.explore.fsd import frechet_distance, gaussian
from src_training.explore.fsd_matrix import vectors_by_name

Array = NDArray[np.float64]

_LEAST = 2


@dataclass(frozen=True)
class Influence:
    """How much an image adds to the distance of its domain.

    Attributes
    ----------
    case
        Name of the image.
    value
        FSD of the domain less FSD without the image; negative where the
        image holds its domain near, NaN where too little is left to tell.
    share
        `value` over the FSD of the domain; 0 where that is 0, NaN as `value`.
    """

    case: str
    value: float
    share: float


def leave_one_out_influence(table: EmbeddingTable, source: str, target: str) -> list[Influence]:
    """How much nearer the target would be without each of its images, most first.

    Every image is left out in turn, all its patches at once, and FSD is
    measured again: exact, with the estimator of the covariance that the
    whole domain has (*reconstruction*; no paper ranks images by FSD).

    Parameters
    ----------
    table
        Rows of both; see `vectors_by_name` for those that count.
    source
        A domain, or `MASKS`.
    target
        A domain.

    Raises
    ------
    InputError
        If there is no such domain, or a side has fewer than two vectors.
    """
    sets = vectors_by_name(table)
    for name in (source, target):
        count = len(sets.get(name, ()))
        if count < _LEAST:
            told = "1 vector" if count == 1 else f"{count} vectors"
            raise InputError(f"{name} has {told}; expected at least two to measure FSD")
    rows = table.where(domain=target, kind="image", view=0)
    away = _LeftOut(sets[source], rows.values)
    whole = away.distance(np.zeros(len(rows), bool))
    cases = np.array(rows.cases)
    found = []
    for case in dict.fromkeys(rows.cases):
        value = whole - away.distance(cases == case)
        share = value / whole if whole > 0 else 0.0 * value
        found.append(Influence(case, value, share))
    return sorted(found, key=lambda each: (math.isnan(each.value), -each.value))


class _LeftOut:
    """FSD from a source to a target without some of its rows, by taking them out of sums.

    With ``S_a = G G.T``, ``Tr (S_a S_b)^(1/2)`` is the sum of the square roots
    of the eigenvalues of ``G.T S_b G``: an image leaves the scatter of the
    target by its own outer products, and what is left to do is one symmetric
    eigenvalue problem.
    """

    def __init__(self, source: Array, target: Array) -> None:
        estimator = frechet_distance(source, target, interval=False).covariance
        self._shrunk = estimator == "ledoit_wolf"
        fitted = gaussian(source, "ledoit_wolf" if self._shrunk else "empirical")
        # Centred first: the sums lose no digits to a far mean.
        centre = target.mean(0)
        self._rows = target - centre
        self._shift = fitted.mean - centre
        values, axes = np.linalg.eigh(fitted.factor.T @ fitted.factor)
        self._variances = np.maximum(values, 0)
        self._seen = self._rows @ (axes * np.sqrt(self._variances))
        self._scatter, self._seen_scatter = _outer(self._rows), _outer(self._seen)

    def distance(self, out: NDArray[np.bool_]) -> float:
        """FSD without the rows where `out` (N,) is true; NaN where fewer than two are left."""
        n = int((~out).sum())
        if n < _LEAST:
            return math.nan
        mean, seen_mean = self._rows[~out].mean(0), self._seen[~out].mean(0)
        scatter = self._scatter - _outer(self._rows[out]) - n * np.outer(mean, mean)
        seen = self._seen_scatter - _outer(self._seen[out]) - n * np.outer(seen_mean, seen_mean)
        divisor = n if self._shrunk else n - 1
        trace = float(np.trace(scatter)) / divisor
        kept = 1.0
        if self._shrunk:
            kept = 1 - _shrinkage(self._rows[~out] - mean, scatter)
        ridge = (1 - kept) * trace / len(mean)
        inner = kept * seen / divisor + np.diag(ridge * self._variances)
        shared = np.sqrt(np.maximum(np.linalg.eigvalsh(inner), 0)).sum()
        gap = float(((self._shift - mean) ** 2).sum())
        return max(0.0, gap + float(self._variances.sum()) + trace - 2 * float(shared))


def _outer(rows: Array) -> Array:
    return rows.T @ rows


def _shrinkage(centred: Array, scatter: Array) -> float:
    """Ledoit and Wolf's (2004), from centred rows (N, d) and their scatter (d, d)."""
    n, d = centred.shape
    fourth = float(((centred**2).sum(1) ** 2).sum()) / n
    squared = float((scatter**2).sum()) / n**2
    mean_variance = float(np.trace(scatter)) / (n * d)
    spread = squared - d * mean_variance**2
    noise = min((fourth - squared) / n, spread)
    return min(1.0, max(0.0, noise / spread)) if spread > 0 else 0.0
