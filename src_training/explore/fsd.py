"""FSD, the Fréchet semantic distance between two sets of semantic vectors."""

import math
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from src_training.errors import InputError

Array = NDArray[np.float64]
Covariance = Literal["auto", "empirical", "ledoit_wolf"]

_EVEN = 1e-5
"""Least ratio of the sizes of a triangular factor for Cholesky to keep ten digits."""

_LOST = 1e-9
"""Largest share of a sum of roots that rounding of its squares may cost."""

_ROUNDING = 1e-13
"""Share of the variances below which what they differ by is rounding: of like sets, no distance."""

_VANISHED = 1e-10
"""Singular values below this share of the largest are none."""

_ALIKE = 1e-3
"""Spread of vectors, as a share of their length, below which they tell nothing apart."""


def all_alike(vectors: ArrayLike) -> bool:
    """Whether vectors (N, d) are so much alike that no distance between such sets means anything.

    A network with skips may learn to segment without its bottleneck: the
    semantic vectors that are made of it are then the same for every image, and
    every FSD is near 0, however far a scanner is.
    """
    rows = np.asarray(vectors, np.float64)
    spread = np.linalg.norm(rows - rows.mean(0), axis=1)
    return bool(spread.max() <= _ALIKE * np.linalg.norm(rows, axis=1).max())


@dataclass(frozen=True)
class Gaussian:
    """A normal distribution fitted to vectors.

    Attributes
    ----------
    mean
        (d,) float64.
    factor
        (m, d) float64; the covariance is ``factor.T @ factor``.
    n
        How many vectors it was fitted to.
    covariance
        The estimator: ``empirical`` (divisor N - 1) or ``ledoit_wolf``
        (divisor N, shrunk towards a multiple of the identity).
    """

    mean: Array
    factor: Array
    n: int
    covariance: str


@dataclass(frozen=True)
class FSD:
    """A Fréchet semantic distance and how far to trust it.

    Attributes
    ----------
    value
        The distance, >= 0; squared, as is the custom, in no unit.
    low, high
        95 % interval: `value` -/+ 1.96 standard errors, not below 0. Equal to
        `value` where none was asked for.
    n_a, n_b
        Vectors on either side.
    covariance
        The estimator that was used on both sides.
    """

    value: float
    low: float
    high: float
    n_a: int
    n_b: int
    covariance: str

    @property
    def has_interval(self) -> bool:
        """Whether the interval was asked for, and has a width."""
        return self.low < self.high

    def to_dict(self) -> dict[str, float | int | str]:
        """As plain values, for JSON."""
        return asdict(self)


def gaussian(vectors: ArrayLike, covariance: Covariance = "auto") -> Gaussian:
    """Fit a normal distribution.

    Parameters
    ----------
    vectors
        (N, d), N >= 2, finite.
    covariance
        ``auto`` shrinks (Ledoit and Wolf, 2004) when N < 2 d, where the
        empirical covariance is too noisy to be of use.

    Raises
    ------
    InputError
        If there are fewer than two vectors, or a value is not finite.
    """
    rows = _checked(vectors, "given")
    shrunk = _estimator(covariance, rows) == "ledoit_wolf"
    return _fit(rows, rows.shape[1], _shrinkage(rows, rows.shape[1]) if shrunk else None)[0]


def distance(a: Gaussian, b: Gaussian) -> float:
    """Fréchet distance of two normal distributions, squared as is the custom.

    ``|mu_a - mu_b|^2 + Tr(S_a + S_b - 2 (S_a S_b)^(1/2))``, Dowson and Landau
    (1982). With ``S = F.T F`` the last trace is the sum of the singular values
    of ``F_a F_b.T``: no square root of a matrix, never complex, the whole
    >= 0. Where both covariances have full rank they are the roots of
    eigenvalues, found sooner.
    """
    return _distance(a, b, _singular_sum(a.factor @ b.factor.T))


def frechet_distance(
    a: ArrayLike,
    b: ArrayLike,
    covariance: Covariance = "auto",
    *,
    interval: bool = True,
) -> FSD:
    """FSD between two sets of semantic vectors.

    GKD (arXiv 2207.12995) compares domains by it. Both sides use the same
    estimator of the covariance: with ``auto`` both are shrunk when either has
    N < 2 d. That they are, and the interval, is our *reconstruction*.

    Parameters
    ----------
    a, b
        (N_a, d) and (N_b, d), at least two vectors each, finite.
    covariance
        See `gaussian`.
    interval
        Whether to say how far to trust it, which takes a few times as long.

    Notes
    -----
    The standard error is that of the delta method: the variance, over the
    vectors, of what each moves the distance by (the limit law is that of Rippl,
    Munk and Sturm, 2016), the shrinkage held. A bootstrap would take fifty
    times as long, and be less true: its copies make noise look like structure.

    Raises
    ------
    InputError
        If a side has fewer than two vectors or a value that is not finite, or
        if the two sides differ in d.
    """
    rows_a, rows_b = _checked(a, "a"), _checked(b, "b")
    dimension = rows_a.shape[1]
    if rows_b.shape[1] != dimension:
        raise InputError(
            f"vectors b have {rows_b.shape[1]} components; expected {dimension} as vectors a have"
        )
    estimator = _estimator(covariance, rows_a, rows_b)
    rows_a, rows_b = _in_their_span(rows_a, rows_b)
    shrunk = estimator == "ledoit_wolf"
    first, second = (_side(rows, dimension, shrunk) for rows in (rows_a, rows_b))
    # Nothing varies in the directions left out: shrinkage alone sets the variances there.
    gap = math.sqrt(first.rest) - math.sqrt(second.rest)
    product = first.normal.factor @ second.normal.factor.T
    if interval:
        parts = np.linalg.svd(product, full_matrices=False)
        common, margin = float(parts[1].sum()), 1.96 * _standard_error(first, second, parts)
    else:
        common, margin = _singular_sum(product), 0.0
    value = _distance(first.normal, second.normal, common) + first.left_out * gap * gap
    low, high = max(0.0, value - margin), value + margin
    return FSD(value, low, high, len(rows_a), len(rows_b), estimator)


def _distance(a: Gaussian, b: Gaussian, common: float) -> float:
    """Of which `common` is the trace of the root of the covariances' product."""
    shift = float(((a.mean - b.mean) ** 2).sum())
    spread = float((a.factor**2).sum() + (b.factor**2).sum())
    found = shift + spread - 2 * common
    return found if found > _ROUNDING * spread else 0.0


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


def _in_their_span(a: Array, b: Array) -> tuple[Array, Array]:
    """Both sets in an orthonormal basis of the space they span, if it is smaller."""
    centre = (a.mean(0) + b.mean(0)) / 2
    if len(a) + len(b) >= a.shape[1]:
        return a, b
    a, b = a - centre, b - centre
    basis = np.linalg.qr(np.concatenate([a, b]).T)[0]
    return a @ basis, b @ basis


def _fit(rows: Array, dimension: int, shrinkage: float | None) -> tuple[Gaussian, float]:
    """Fit, empirically without a shrinkage; and the variance in each direction left out."""
    n, kept = rows.shape
    mean = rows.mean(0)
    centred = rows - mean
    if shrinkage is None:
        factor, ridge = centred / (n - 1) ** 0.5, 0.0
    else:
        ridge = shrinkage * float((centred**2).sum()) / (n * dimension)
        varied = centred * ((1 - shrinkage) / n) ** 0.5
        factor = np.concatenate([varied, ridge**0.5 * np.eye(kept)])
    if len(factor) > kept:
        factor = _triangular(factor)
    return Gaussian(mean, factor, n, "empirical" if shrinkage is None else "ledoit_wolf"), ridge


def _triangular(factor: Array) -> Array:
    """R (d, d) of a tall factor = Q R, by Cholesky where that loses no digits."""
    with suppress(np.linalg.LinAlgError):
        lower = np.linalg.cholesky(factor.T @ factor)
        sizes = lower.diagonal()
        if sizes.min() > _EVEN * sizes.max():
            return np.asarray(lower.T, np.float64)
    return np.asarray(np.linalg.qr(factor, mode="r"), np.float64)


def _singular_sum(matrix: Array) -> float:
    """Sum of the singular values."""
    if matrix.shape[0] == matrix.shape[1]:
        squared = np.linalg.eigvalsh(matrix @ matrix.T)
        if squared[0] > 0:
            roots = np.sqrt(squared)
            # Each square is off by some units in the last place of the largest.
            lost = 10 * np.finfo(float).eps * squared[-1] * (1 / roots).sum()
            if lost < _LOST * roots.sum():
                return float(roots.sum())
    return float(np.linalg.svd(matrix, compute_uv=False).sum())


def _shrinkage(rows: Array, dimension: int) -> float:
    """Ledoit and Wolf's, which no rotation changes: zeros stand for the left-out directions."""
    from sklearn.covariance import ledoit_wolf_shrinkage

    padded = np.pad(rows, ((0, 0), (0, dimension - rows.shape[1])))
    # Two vectors leave nothing to shrink, and rounding then gives a negative.
    return min(1.0, max(0.0, float(ledoit_wolf_shrinkage(padded))))


@dataclass(frozen=True, eq=False)
class _Side:
    """Vectors (N, k) in the space of both sides, and the normal distribution fitted to them.

    Attributes
    ----------
    shrinkage
        Share of the covariance that is a multiple of the identity.
    left_out
        Directions in which neither side varies.
    rest
        The variance that shrinkage gives to each of them.
    """

    rows: Array
    normal: Gaussian
    shrinkage: float
    left_out: int
    rest: float


def _side(rows: Array, dimension: int, shrunk: bool) -> _Side:
    shrinkage = _shrinkage(rows, dimension) if shrunk else None
    normal, rest = _fit(rows, dimension, shrinkage)
    return _Side(rows, normal, shrinkage or 0.0, dimension - rows.shape[1], rest)


def _standard_error(a: _Side, b: _Side, product: tuple[Array, Array, Array]) -> float:
    """Of the distance, for want of more vectors; `product` is that of the factors, decomposed."""
    left, sizes, right = product
    kept = sizes > _VANISHED * sizes.max()
    weights = 1 / np.sqrt(sizes[kept])[:, None]
    # T.T @ T is the map that carries the one distribution to the other.
    to_b = weights * (right[kept] @ b.normal.factor)
    to_a = weights * (left.T[kept] @ a.normal.factor)
    return math.sqrt(_variance(a, b, to_b) + _variance(b, a, to_a))


def _variance(own: _Side, other: _Side, to_other: Array) -> float:
    """Of the distance, from the vectors of one side: that of the influence of each."""
    centred = own.rows - own.normal.mean
    lengths = (centred**2).sum(1)
    # The derivative by the covariance is 1 - T.T @ T, and this its trace.
    trace = own.rows.shape[1] - float((to_other**2).sum())
    if own.left_out and own.rest:
        trace += own.left_out * (1 - math.sqrt(other.rest / own.rest))
    moved = lengths - ((centred @ to_other.T) ** 2).sum(1)
    influence = 2 * centred @ (own.normal.mean - other.normal.mean)
    influence += (1 - own.shrinkage) * moved
    influence += own.shrinkage * trace * lengths / (own.rows.shape[1] + own.left_out)
    return float(influence.var()) / len(own.rows)
