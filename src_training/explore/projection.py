"""Projections of semantic vectors to two dimensions, shared by models for comparison."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from src_training.errors import InputError
from src_training.extras import require

Array = NDArray[np.float64]
Method = Literal["pca", "tsne", "umap"]

METHODS: dict[Method, str] = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}
"""Projection -> display name."""

_PERPLEXITY = 30.0
_NEIGHBOURS = 15
_COMPONENTS = 50
_LEAST_DISTINCT = 4
Setting = int | float | str


@dataclass(frozen=True, eq=False)
class Projection:
    """Vectors projected to two dimensions, and the settings to reproduce them.

    Attributes
    ----------
    points
        Model -> (N, 2) float64, in the order of its vectors.
    method
        Method of the projection; PCA if there are fewer than four distinct vectors.
    settings
        Parameters of the method, the seed, and the number of vectors and of their
        components.
    explained
        Share of the variance along each axis for PCA, else None.
    """

    points: dict[str, Array]
    method: Method
    settings: dict[str, Setting]
    explained: tuple[float, float] | None

    @property
    def caption(self) -> str:
        """One line for a figure: ``PCA: seed 0, vectors 40, components 512``."""
        settings = ", ".join(f"{name} {value}" for name, value in self.settings.items())
        return f"{METHODS[self.method]}: {settings}"


def project(tables: Mapping[str, Array], method: Method = "pca", seed: int = 0) -> Projection:
    """Project the vectors of several models by one projection that is fitted to all of them.

    Parameters
    ----------
    tables
        Model -> (N, d), with the same d for all models.
    method
        ``pca`` and ``tsne`` by scikit-learn, ``umap`` by umap-learn, an optional
        dependency. The input of t-SNE and UMAP is the first 50 principal components.
    seed
        Seed of t-SNE and UMAP; PCA is deterministic.

    Raises
    ------
    InputError
        If two models have vectors of different lengths, a value is not
        finite, the method is unknown, or umap-learn is not installed.
    """
    if method not in METHODS:
        raise InputError(f"projection {method!r} is unknown; expected one of {', '.join(METHODS)}")
    _check_vectors(tables)
    rows = np.concatenate([*tables.values()]) if tables else np.zeros((0, 0))
    used: dict[str, Setting] = {"seed": seed, "vectors": rows.shape[0], "components": rows.shape[1]}
    explained = None
    if method != "pca" and len(np.unique(rows, axis=0)) < _LEAST_DISTINCT:
        used["instead of"] = METHODS[method]
        method = "pca"
    if method == "pca":
        plane, explained = _pca(rows)
    else:
        plane, settings = (_tsne if method == "tsne" else _umap)(rows, seed)
        used |= settings
    ends = np.cumsum([len(vectors) for vectors in tables.values()])[:-1]
    parts = np.split(plane, ends) if tables else []
    return Projection(dict(zip(tables, parts, strict=True)), method, used, explained)


def _check_vectors(tables: Mapping[str, Array]) -> None:
    first = next(iter(tables), "")
    for name, vectors in tables.items():
        if vectors.shape[1] != tables[first].shape[1]:
            raise InputError(
                f"the vectors of {name} have {vectors.shape[1]} components and those of {first} "
                f"{tables[first].shape[1]}; expected models of one latent size"
            )
        if not np.isfinite(vectors).all():
            raise InputError(f"the vectors of {name} hold NaN or infinity; expected finite values")


def _pca(rows: Array) -> tuple[Array, tuple[float, float]]:
    plane = np.zeros((len(rows), 2))
    components, shares = _principal(rows, 2)
    plane[:, : components.shape[1]] = components
    first, second = [*shares, 0.0, 0.0][:2]
    return plane, (first, second)


def _principal(rows: Array, count: int) -> tuple[Array, list[float]]:
    """First principal components (N, at most count), and their shares of the variance."""
    from sklearn.decomposition import PCA

    if not len(rows) or not np.ptp(rows, axis=0).any():
        return np.zeros((len(rows), 0)), []
    fitted = PCA(min(count, *rows.shape), svd_solver="full")
    components = np.asarray(fitted.fit_transform(rows), np.float64)
    return components, fitted.explained_variance_ratio_.tolist()


def _tsne(rows: Array, seed: int) -> tuple[Array, dict[str, Setting]]:
    from sklearn.manifold import TSNE

    reduced = _principal(rows, _COMPONENTS)[0]
    perplexity = min(_PERPLEXITY, (len(rows) - 1) / 3)
    init = "pca" if reduced.shape[1] > 1 else "random"
    fitted = TSNE(perplexity=perplexity, init=init, random_state=seed)
    return np.asarray(fitted.fit_transform(reduced), np.float64), {
        "perplexity": round(perplexity, 2),
        "principal components first": reduced.shape[1],
    }


def _umap(rows: Array, seed: int) -> tuple[Array, dict[str, Setting]]:
    require("umap", "UMAP", "umap")
    from umap import UMAP

    reduced = _principal(rows, _COMPONENTS)[0]
    neighbours = min(_NEIGHBOURS, len(rows) - 1)
    # The spectral initialisation needs more vectors than neighbours.
    init = "spectral" if len(rows) > 2 * _NEIGHBOURS else "random"
    fitted = UMAP(n_neighbors=neighbours, init=init, random_state=seed, n_jobs=1)
    return np.asarray(fitted.fit_transform(reduced), np.float64), {
        "neighbours": neighbours,
        "principal components first": reduced.shape[1],
    }
