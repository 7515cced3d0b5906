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
        The distance, >= 0.
    low, high
        95 % interval: `value` -/+ 1.96 bootstrap standard errors, not below
        0. Centred on the value because resampling with replacement biases
        the distance itself upwards. Equal to `value` without a bootstrap.
    n_a, n_b
        Vectors on either side.
    covariance
        The estimator that was used on both sides.
    draws
        Bootstrap draws behind the interval.
    """

    value: float
    low: float
    high: float
    n_a: int
    n_b: int
    covariance: str
    draws: int

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
    of ``F_a F_b.T``: no square root of a matrix, never complex. Where both
    covariances have full rank they are the roots of eigenvalues, found sooner.
    """
    shift = float(((a.mean - b.mean) ** 2).sum())
    spread = float((a.factor**2).sum() + (b.factor**2).sum())
    return max(0.0, shift + spread - 2 * _singular_sum(a.factor @ b.factor.T))


def frechet_distance(
    a: ArrayLike,
    b: ArrayLike,
    covariance: Covariance = "auto",
    bootstrap: int = 50,
    seed: int = 0,
) -> FSD:
    """FSD between two sets of semantic vectors.

    GKD (arXiv 2207.12995) compares domains by it. Both sides use the same
    estimator of the covariance: with ``auto`` both are shrunk when either has
    N < 2 d.

    Parameters
    ----------
    a, b
        (N_a, d) and (N_b, d), at least two vectors each, finite.
    covariance
        See `gaussian`.
    bootstrap
        Draws for the interval; 0 for none.
    seed
        Of the draws.

    Notes
    -----
    Every bootstrap draw is shrunk as much as its whole set is: the copies in
    a draw would make the noise look like structure.

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
    shrinkage_a = _shrinkage(rows_a, dimension) if shrunk else None
    shrinkage_b = _shrinkage(rows_b, dimension) if shrunk else None

    def between(a: Array, b: Array) -> float:
        first, rest_a = _fit(a, dimension, shrinkage_a)
        second, rest_b = _fit(b, dimension, shrinkage_b)
        # Nothing varies in the directions left out: shrinkage alone sets the variances there.
        left_out: int = dimension - a.shape[1]
        gap = math.sqrt(rest_a) - math.sqrt(rest_b)
        return distance(first, second) + left_out * gap * gap

    value = between(rows_a, rows_b)
    random = np.random.default_rng(seed)
    draws = [between(_drawn(rows_a, random), _drawn(rows_b, random)) for _ in range(bootstrap)]
    margin = 1.96 * float(np.std(draws, ddof=1)) if bootstrap > 1 else 0.0
    low, high = max(0.0, value - margin), value + margin
    return FSD(value, low, high, len(rows_a), len(rows_b), estimator, bootstrap)


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


def _drawn(rows: Array, random: np.random.Generator) -> Array:
    return rows[random.integers(len(rows), size=len(rows))]
