"""Leave-one-out influence: how much each image adds to the FSD of its domain."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from src_training.errors import InputError
from src_training.explore.embedding_table import EmbeddingTable
from src_training.explore.fsd import fit_gaussian, frechet_distance, ledoit_wolf_shrinkage
from src_training.explore.fsd_matrix import vector_sets

Array = NDArray[np.float64]

_LEAST_VECTORS = 2


@dataclass(frozen=True)
class Influence:
    """Influence of an image on the FSD of its domain.

    Attributes
    ----------
    case
        Name of the image.
    value
        FSD of the domain minus FSD without the image; negative if the image
        brings its domain nearer, NaN if fewer than two vectors are left.
    share
        `value` over the FSD of the domain; 0 if that is 0, NaN as `value`.
    """

    case: str
    value: float
    share: float


def leave_one_out_influence(table: EmbeddingTable, source: str, target: str) -> list[Influence]:
    """Influence of each image of a domain on its distance from a source, largest first.

    Every image is left out in turn, with all its patches, and FSD is computed
    again: exactly, with the covariance estimator of the whole domain
    (*reconstruction*; no paper ranks images by FSD).

    Parameters
    ----------
    table
        With rows of both; see `vector_sets` for those that count.
    source
        A domain, or `MASKS`.
    target
        A domain.

    Raises
    ------
    InputError
        If there is no such domain, or a side has fewer than two vectors.
    """
    sets = vector_sets(table)
    for name in (source, target):
        count = len(sets.get(name, ()))
        if count < _LEAST_VECTORS:
            vectors = "1 vector" if count == 1 else f"{count} vectors"
            raise InputError(f"{name} has {vectors}; expected at least two to measure FSD")
    rows = table.where(domain=target, kind="image", view=0)
    left_out = _LeaveOneOut(sets[source], rows.values)
    whole = left_out.distance(np.zeros(len(rows), bool))
    cases = np.array(rows.cases)
    influences = []
    for case in dict.fromkeys(rows.cases):
        value = whole - left_out.distance(cases == case)
        share = value / whole if whole > 0 else 0.0 * value
        influences.append(Influence(case, value, share))
    return sorted(influences, key=lambda each: (math.isnan(each.value), -each.value))


class _LeaveOneOut:
    """FSD from a source to a target without some of its rows, from sums over the rest.

    With ``S_a = G G.T``, ``Tr (S_a S_b)^(1/2)`` is the sum of the square roots
    of the eigenvalues of ``G.T S_b G``. An image is removed from the scatter
    of the target by subtracting its own, and one symmetric eigenvalue problem
    is left to solve.
    """

    def __init__(self, source: Array, target: Array) -> None:
        estimator = frechet_distance(source, target, interval=False).covariance
        self._shrunk = estimator == "ledoit_wolf"
        fitted = fit_gaussian(source, "ledoit_wolf" if self._shrunk else "empirical")
        # Centred first: sums over rows far from 0 would lose digits.
        centre = target.mean(0)
        self._rows = target - centre
        self._source_mean = fitted.mean - centre
        values, axes = np.linalg.eigh(fitted.factor.T @ fitted.factor)
        self._variances = np.maximum(values, 0)
        self._projected = self._rows @ (axes * np.sqrt(self._variances))
        self._scatter, self._projected_scatter = _outer(self._rows), _outer(self._projected)

    def distance(self, out: NDArray[np.bool_]) -> float:
        """FSD without the rows where `out` (N,) is true; NaN if fewer than two are left."""
        n = int((~out).sum())
        if n < _LEAST_VECTORS:
            return math.nan
        mean, scatter = self._without(self._rows, self._scatter, out)
        _, projected = self._without(self._projected, self._projected_scatter, out)
        divisor = n if self._shrunk else n - 1
        shrinkage = ledoit_wolf_shrinkage(self._rows[~out]) if self._shrunk else 0.0
        trace = float(np.trace(scatter)) / divisor
        ridge = shrinkage * trace / len(mean)
        inner = (1 - shrinkage) * projected / divisor + np.diag(ridge * self._variances)
        common = float(np.sqrt(np.maximum(np.linalg.eigvalsh(inner), 0)).sum())
        shift = float(((self._source_mean - mean) ** 2).sum())
        return max(0.0, shift + float(self._variances.sum()) + trace - 2 * common)

    @staticmethod
    def _without(rows: Array, scatter: Array, out: NDArray[np.bool_]) -> tuple[Array, Array]:
        """Mean, and scatter about it, of the rows that are not left out."""
        mean = rows[~out].mean(0)
        return mean, scatter - _outer(rows[out]) - int((~out).sum()) * np.outer(mean, mean)


def _outer(rows: Array) -> Array:
    return rows.T @ rows
