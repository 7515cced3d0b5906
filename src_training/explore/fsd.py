"""FSD, the Fréchet semantic distance between two sets of semantic vectors (GKD)."""

import math
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from src_training.errors import InputError

Array = NDArray[np.float64]
Covariance = Literal["auto", "empirical", "ledoit_wolf"]

_LEAST_DIAGONAL_RATIO = 1e-5
"""Smallest diagonal ratio of a triangular factor for which Cholesky has ten correct digits."""

_MOST_ROUNDING = 1e-9
"""Largest accepted relative error of a sum of singular values due to squaring."""

_EQUAL = 1e-13
"""Distances below this share of the variances count as 0, as rounding errors of equal sets."""

_RANK = 1e-10
"""Singular values below this share of the largest count as 0."""

_COLLAPSED = 1e-3
"""Largest spread of collapsed vectors relative to their length."""


def is_collapsed(vectors: ArrayLike) -> bool:
    """Whether vectors (N, d) are practically all equal, so that distances are meaningless.

    A network with skips may learn to segment without its bottleneck. Then
    its semantic vectors are the same for every image, and every FSD is near
    0 even for very different scanners.

    Examples
    --------
    >>> is_collapsed([[1.0, 2.0], [1.0, 2.0001]]), is_collapsed([[1.0, 2.0], [2.0, 1.0]])
    (True, False)
    """
    rows = np.asarray(vectors, np.float64)
    spread = np.linalg.norm(rows - rows.mean(0), axis=1)
    return bool(spread.max() <= _COLLAPSED * np.linalg.norm(rows, axis=1).max())


@dataclass(frozen=True)
class Gaussian:
    """A multivariate normal distribution fitted to vectors.

    Attributes
    ----------
    mean
        (d,) float64.
    factor
        (m, d) float64; the covariance is ``factor.T @ factor``.
    n
        Number of fitted vectors.
    covariance
        Estimator of the covariance: ``empirical`` (divisor N - 1) or
        ``ledoit_wolf`` (divisor N, shrunk towards a multiple of the identity).
    """

    mean: Array
    factor: Array
    n: int
    covariance: str


@dataclass(frozen=True)
class FSD:
    """A Fréchet semantic distance with its confidence interval.

    Attributes
    ----------
    value
        Squared distance, >= 0, dimensionless.
    low, high
        95 % interval: `value` -/+ 1.96 standard errors, not below 0. Both
        equal `value` if no interval was computed.
    n_a, n_b
        Number of vectors in each set.
    covariance
        Estimator of both covariances, see `Gaussian`.
    """

    value: float
    low: float
    high: float
    n_a: int
    n_b: int
    covariance: str

    @property
    def has_interval(self) -> bool:
        """Whether an interval was computed."""
        return self.low < self.high

    def to_dict(self) -> dict[str, float | int | str]:
        """Convert to JSON values."""
        return asdict(self)


def fit_gaussian(vectors: ArrayLike, covariance: Covariance = "auto") -> Gaussian:
    """Fit a normal distribution to vectors.

    Parameters
    ----------
    vectors
        (N, d), N >= 2, finite.
    covariance
        ``auto`` uses shrinkage (Ledoit and Wolf, 2004) if N < 2 d, because the
        empirical covariance is then too noisy.

    Raises
    ------
    InputError
        If there are fewer than two vectors, or a value is not finite.
    """
    rows = _checked(vectors, "given")
    shrunk = _estimator(covariance, rows) == "ledoit_wolf"
    return _fit(rows, rows.shape[1], ledoit_wolf_shrinkage(rows) if shrunk else None)[0]


def ledoit_wolf_shrinkage(rows: Array, dimension: int | None = None) -> float:
    """Shrinkage in [0, 1] of the covariance of vectors (N, k) by Ledoit and Wolf (2004).

    Parameters
    ----------
    rows
        Vectors, not necessarily centered.
    dimension
        Dimension d >= k of the vectors before directions without variance were
        removed; None for k. The result is the shrinkage of the original vectors.
    """
    from sklearn import covariance

    missing = 0 if dimension is None else dimension - rows.shape[1]
    # The shrinkage is invariant to rotation, so zeros can replace the removed directions.
    padded = np.pad(rows, ((0, 0), (0, missing)))
    # With two vectors, rounding may give a negative value.
    return min(1.0, max(0.0, float(covariance.ledoit_wolf_shrinkage(padded))))


def frechet_distance(
    a: ArrayLike,
    b: ArrayLike,
    covariance: Covariance = "auto",
    *,
    interval: bool = True,
) -> FSD:
    """FSD between two sets of semantic vectors: the Fréchet distance of their normal distributions.

    ``|mu_a - mu_b|^2 + Tr(S_a + S_b - 2 (S_a S_b)^(1/2))``, Dowson and Landau
    (1982). With ``S = F.T F`` the trace of the root is the sum of the singular
    values of ``F_a F_b.T``, which needs no square root of a matrix and is
    always real.

    GKD (arXiv 2207.12995) compares domains by this distance. Both covariances use
    the same estimator: with ``auto`` both are shrunk if one set has N < 2 d.
    The shrinkage and the interval are our *reconstruction*.

    Parameters
    ----------
    a, b
        (N_a, d) and (N_b, d), at least two vectors each, finite.
    covariance
        See `fit_gaussian`.
    interval
        Whether to compute the confidence interval, which is a few times slower.

    Notes
    -----
    The standard error is that of the delta method with fixed shrinkage: the
    variance of the influence of each vector on the distance (for the limit law
    see Rippl, Munk and Sturm, 2016). A bootstrap is fifty times slower, and is
    biased because repeated vectors reduce the rank of the covariances.

    Raises
    ------
    InputError
        If a set has fewer than two vectors or a value that is not finite, or
        if the two sets differ in d.

    Examples
    --------
    >>> a = np.array([[0.0], [2.0], [4.0], [6.0]])
    >>> found = frechet_distance(a, 2 * a + 1)
    >>> mean, std = a.mean(), a.std(ddof=1)
    >>> bool(np.isclose(found.value, (mean + 1) ** 2 + std**2))  # closed form, d = 1
    True
    >>> frechet_distance(a, a, interval=False).value
    0.0
    """
    rows_a, rows_b = _checked(a, "a"), _checked(b, "b")
    dimension = rows_a.shape[1]
    if rows_b.shape[1] != dimension:
        raise InputError(
            f"vectors b have {rows_b.shape[1]} components; expected {dimension} as vectors a have"
        )
    estimator = _estimator(covariance, rows_a, rows_b)
    rows_a, rows_b = _project_to_span(rows_a, rows_b)
    shrunk = estimator == "ledoit_wolf"
    first, second = (_side(rows, dimension, shrunk) for rows in (rows_a, rows_b))
    # Both sets are constant in the removed directions, where only shrinkage adds variance.
    gap = math.sqrt(first.ridge) - math.sqrt(second.ridge)
    product = first.normal.factor @ second.normal.factor.T
    if interval:
        parts = _singular_vectors(product)
        common, margin = float(parts[1].sum()), 1.96 * _standard_error(first, second, parts)
    else:
        common, margin = _singular_sum(product), 0.0
    value = _squared_distance(first.normal, second.normal, common) + first.removed * gap * gap
    low, high = max(0.0, value - margin), value + margin
    return FSD(value, low, high, len(rows_a), len(rows_b), estimator)


def _squared_distance(a: Gaussian, b: Gaussian, common: float) -> float:
    """Distance from the trace `common` of the root of the product of the covariances."""
    shift = float(((a.mean - b.mean) ** 2).sum())
    variances = float((a.factor**2).sum() + (b.factor**2).sum())
    value = shift + variances - 2 * common
    return value if value > _EQUAL * variances else 0.0


def _checked(vectors: ArrayLike, name: str) -> Array:
    rows = np.asarray(vectors, np.float64)
    if rows.ndim != 2 or len(rows) < 2 or rows.shape[1] < 1:
        raise InputError(
            f"vectors {name} have shape {rows.shape}; expected (N, d) with N of at least 2"
        )
    if not np.isfinite(rows).all():
        raise InputError(f"vectors {name} hold a value that is NaN or infinite; expected none")
    return rows


def _estimator(covariance: Covariance, *sides: Array) -> Literal["empirical", "ledoit_wolf"]:
    if covariance != "auto":
        return covariance
    few = any(len(rows) < 2 * rows.shape[1] for rows in sides)
    return "ledoit_wolf" if few else "empirical"


def _project_to_span(a: Array, b: Array) -> tuple[Array, Array]:
    """Project both sets to an orthonormal basis of their common span, if that is smaller."""
    centre = (a.mean(0) + b.mean(0)) / 2
    if len(a) + len(b) >= a.shape[1]:
        return a, b
    a, b = a - centre, b - centre
    basis = np.linalg.qr(np.concatenate([a, b]).T)[0]
    return a @ basis, b @ basis


def _fit(rows: Array, dimension: int, shrinkage: float | None) -> tuple[Gaussian, float]:
    """Fit a normal distribution with a given shrinkage; None for the empirical covariance.

    Returns
    -------
    Gaussian
        Distribution in the k directions of the rows (N, k).
    float
        Ridge: the variance that shrinkage adds in every direction.
    """
    n, k = rows.shape
    mean = rows.mean(0)
    centered = rows - mean
    if shrinkage is None:
        factor, ridge = centered / (n - 1) ** 0.5, 0.0
    else:
        ridge = shrinkage * float((centered**2).sum()) / (n * dimension)
        scaled = centered * ((1 - shrinkage) / n) ** 0.5
        factor = np.concatenate([scaled, ridge**0.5 * np.eye(k)])
    if len(factor) > k:
        factor = _triangular(factor)
    return Gaussian(mean, factor, n, "empirical" if shrinkage is None else "ledoit_wolf"), ridge


def _triangular(factor: Array) -> Array:
    """R (d, d) of the QR decomposition of a tall factor, by Cholesky if that is exact enough."""
    with suppress(np.linalg.LinAlgError):
        lower = np.linalg.cholesky(factor.T @ factor)
        diagonal = lower.diagonal()
        if diagonal.min() > _LEAST_DIAGONAL_RATIO * diagonal.max():
            return np.asarray(lower.T, np.float64)
    return np.asarray(np.linalg.qr(factor, mode="r"), np.float64)


def _singular_sum(matrix: Array) -> float:
    """Sum of the singular values, by eigenvalues if that is faster and exact enough."""
    if matrix.shape[0] == matrix.shape[1]:
        squared = np.linalg.eigvalsh(matrix @ matrix.T)
        if _exact_enough(squared):
            return float(np.sqrt(squared).sum())
    return float(np.linalg.svd(matrix, compute_uv=False).sum())


def _singular_vectors(matrix: Array) -> tuple[Array, Array, Array]:
    """Singular value decomposition, by eigenvectors under the conditions of `_singular_sum`."""
    if matrix.shape[0] == matrix.shape[1]:
        squared, vectors = np.linalg.eigh(matrix.T @ matrix)
        if _exact_enough(squared):
            roots = np.sqrt(squared)
            return (matrix @ vectors) / roots, roots, vectors.T
    left, singular, right = np.linalg.svd(matrix, full_matrices=False)
    return left, singular, right


def _exact_enough(squared: NDArray[np.floating]) -> bool:
    """Whether the roots of ascending eigenvalues are accurate singular values."""
    if squared[0] <= 0:
        return False
    roots = np.sqrt(squared)
    # The error of each eigenvalue is a few units in the last place of the largest one.
    error = 10 * np.finfo(float).eps * squared[-1] * (1 / roots).sum()
    return bool(error < _MOST_ROUNDING * roots.sum())


@dataclass(frozen=True, eq=False)
class _Side:
    """One of two sets of vectors, and the normal distribution fitted to it.

    Attributes
    ----------
    rows
        Vectors (N, k) in the common span of both sets.
    shrinkage
        Weight of the multiple of the identity in the covariance.
    removed
        d - k, number of directions in which both sets are constant.
    ridge
        See `_fit`.
    """

    rows: Array
    normal: Gaussian
    shrinkage: float
    removed: int
    ridge: float


def _side(rows: Array, dimension: int, shrunk: bool) -> _Side:
    shrinkage = ledoit_wolf_shrinkage(rows, dimension) if shrunk else None
    normal, ridge = _fit(rows, dimension, shrinkage)
    return _Side(rows, normal, shrinkage or 0.0, dimension - rows.shape[1], ridge)


def _standard_error(a: _Side, b: _Side, product: tuple[Array, Array, Array]) -> float:
    """Standard error of the distance; `product` is the SVD of the product of the factors."""
    left, singular, right = product
    nonzero = singular > _RANK * singular.max()
    weights = 1 / np.sqrt(singular[nonzero])[:, None]
    # T.T @ T is the optimal transport map from one distribution to the other.
    to_b = weights * (right[nonzero] @ b.normal.factor)
    to_a = weights * (left.T[nonzero] @ a.normal.factor)
    return math.sqrt(_variance(a, b, to_b) + _variance(b, a, to_a))


def _variance(own: _Side, other: _Side, to_other: Array) -> float:
    """Variance of the distance due to one set: the variance of its vectors' influence."""
    centered = own.rows - own.normal.mean
    lengths = (centered**2).sum(1)
    # Trace of the derivative by the covariance, 1 - T.T @ T.
    trace = own.rows.shape[1] - float((to_other**2).sum())
    if own.removed and own.ridge:
        trace += own.removed * (1 - math.sqrt(other.ridge / own.ridge))
    # float32 is precise enough for a standard error, and twice as fast.
    images = centered.astype(np.float32) @ to_other.T.astype(np.float32)
    length_changes = lengths - np.einsum("ij,ij->i", images, images)
    influence = 2 * centered @ (own.normal.mean - other.normal.mean)
    influence += (1 - own.shrinkage) * length_changes
    influence += own.shrinkage * trace * lengths / (own.rows.shape[1] + own.removed)
    return float(influence.var()) / len(own.rows)
