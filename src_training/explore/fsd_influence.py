"""Leave-one-out influence: the contribution of each image to the FSD of its domain."""

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
        reduces the distance, NaN if fewer than two vectors remain.
    share
        `value` relative to the FSD of the domain; 0 if that is 0, NaN if `value` is.
    """

    case: str
    value: float
    share: float


def leave_one_out_influence(table: EmbeddingTable, source: str, target: str) -> list[Influence]:
    """Influence of each image of a domain on its distance from a source, largest first.

    Each image, with all its patches, is left out in turn, and FSD is computed
    again: exactly, with the covariance estimator of the whole domain
    (*reconstruction*; no paper ranks images by FSD).

    Parameters
    ----------
    table
        Table with rows of both; `vector_sets` selects the rows.
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
    leave_out = _LeaveOneOut(sets[source], rows.values)
    total = leave_out.distance(np.zeros(len(rows), bool))
    cases = np.array(rows.cases)
    influences = []
    for case in dict.fromkeys(rows.cases):
        value = total - leave_out.distance(cases == case)
        share = value / total if total > 0 else 0.0 * value
        influences.append(Influence(case, value, share))
    return sorted(influences, key=lambda influence: (math.isnan(influence.value), -influence.value))


class _LeaveOneOut:
    """FSD from a source to a target without some of the target's rows.

    With ``S_a = G G.T``, ``Tr (S_a S_b)^(1/2)`` is the sum of the square roots
    of the eigenvalues of ``G.T S_b G``. The scatter matrix of the rows to leave
    out is subtracted from that of the target; then only one symmetric eigenvalue
    problem has to be solved.
    """

    def __init__(self, source: Array, target: Array) -> None:
        estimator = frechet_distance(source, target, interval=False).covariance
        self._shrunk = estimator == "ledoit_wolf"
        fitted = fit_gaussian(source, "ledoit_wolf" if self._shrunk else "empirical")
        # Centre the rows, because sums over rows far from 0 lose precision.
        centre = target.mean(0)
        self._rows = target - centre
        self._source_mean = fitted.mean - centre
        values, axes = np.linalg.eigh(fitted.factor.T @ fitted.factor)
        self._variances = np.maximum(values, 0)
        self._projected = self._rows @ (axes * np.sqrt(self._variances))
        self._scatter, self._projected_scatter = _outer(self._rows), _outer(self._projected)

    def distance(self, excluded: NDArray[np.bool_]) -> float:
        """FSD without the rows where `excluded` (N,) is true; NaN if fewer than two remain."""
        n = int((~excluded).sum())
        if n < _LEAST_VECTORS:
            return math.nan
        mean, scatter = self._without(self._rows, self._scatter, excluded)
        _, projected = self._without(self._projected, self._projected_scatter, excluded)
        divisor = n if self._shrunk else n - 1
        shrinkage = ledoit_wolf_shrinkage(self._rows[~excluded]) if self._shrunk else 0.0
        trace = float(np.trace(scatter)) / divisor
        ridge = shrinkage * trace / len(mean)
        inner = (1 - shrinkage) * projected / divisor + np.diag(ridge * self._variances)
        common = float(np.sqrt(np.maximum(np.linalg.eigvalsh(inner), 0)).sum())
        shift = float(((self._source_mean - mean) ** 2).sum())
        return max(0.0, shift + float(self._variances.sum()) + trace - 2 * common)

    @staticmethod
    def _without(rows: Array, scatter: Array, excluded: NDArray[np.bool_]) -> tuple[Array, Array]:
        """Mean and scatter matrix of the rows that are not excluded."""
        included = ~excluded
        mean = rows[included].mean(0)
        return mean, scatter - _outer(rows[excluded]) - int(included.sum()) * np.outer(mean, mean)


def _outer(rows: Array) -> Array:
    return rows.T @ rows
