"""FSD between all domains of a table, and its correlation with their Dice."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from src_training.errors import InputError
from src_training.explore.embedding_table import EmbeddingTable
from src_training.explore.fsd import FSD, frechet_distance, is_collapsed

Array = NDArray[np.float64]

MASKS = "masks"
"""Name of the set of vectors of kind ``mask`` in a matrix."""

FEW = 30
"""Number of vectors below which a set causes a warning."""

_LEAST_VECTORS, _LEAST_DOMAINS = 2, 3


@dataclass(frozen=True)
class DistanceMatrix:
    """FSD between every two sets of vectors.

    Attributes
    ----------
    names
        Domains in the order of the table, then `MASKS` if there are masks.
    fsd
        Rows of distances; None if a set has fewer than two vectors, 0 on the
        diagonal. `FSD.n_a` is the number of vectors of the row, `FSD.n_b` of the column.
    warnings
        Sentences about the reliability of the distances.
    """

    names: tuple[str, ...]
    fsd: list[list[FSD | None]]
    warnings: list[str]

    def between(self, a: str, b: str) -> FSD | None:
        """The distance between two sets by name; ValueError if one is not in `names`."""
        return self.fsd[self.names.index(a)][self.names.index(b)]


def vector_sets(table: EmbeddingTable) -> dict[str, Array]:
    """Vectors (N, d) of the patches of each domain, and of all masks as `MASKS`.

    Augmented views are excluded, because they are not independent of their patches.

    Raises
    ------
    InputError
        If a domain has the name `MASKS`.
    """
    sets = {
        domain: table.where(domain=domain, kind="image", view=0).values
        for domain in dict.fromkeys(table.domains)
    }
    masks = table.where(kind="mask").values
    if len(masks):
        if MASKS in sets:
            raise InputError(f"a domain is called {MASKS}; expected another name beside the masks")
        sets[MASKS] = masks
    return sets


def distance_matrix(table: EmbeddingTable) -> DistanceMatrix:
    """FSD between every two domains, and between each domain and the masks.

    Parameters
    ----------
    table
        Table with rows of any domains; `vector_sets` selects the rows.

    Raises
    ------
    InputError
        If a domain has the name `MASKS`, or a vector is not finite.
    """
    sets = vector_sets(table)
    names, rows = tuple(sets), list(sets.values())
    matrix: list[list[FSD | None]] = [[None] * len(names) for _ in names]
    for i, a in enumerate(rows):
        for j, b in enumerate(rows[: i + 1]):
            if min(len(a), len(b)) < _LEAST_VECTORS:
                continue
            fsd = frechet_distance(b, a, interval=i != j)
            if i == j:
                fsd = replace(fsd, value=0.0, low=0.0, high=0.0)
            matrix[j][i] = fsd
            matrix[i][j] = replace(fsd, n_a=fsd.n_b, n_b=fsd.n_a)
    distances = (cell for row in matrix for cell in row if cell)
    return DistanceMatrix(names, matrix, distance_warnings(sets, distances))


def dice_by_domain(table: EmbeddingTable) -> dict[str, float]:
    """Domain -> mean Dice of its patches; domains without masks are excluded."""
    means = {}
    for domain in dict.fromkeys(table.domains):
        dice = table.where(domain=domain, kind="image", view=0).dice
        if not np.isnan(dice).all():
            means[domain] = float(np.nanmean(dice))
    return means


def dice_correlation(
    matrix: DistanceMatrix, dice: Mapping[str, float], source: str | None = None
) -> tuple[float, int] | None:
    """Pearson's r between FSD from a source and Dice, over the other domains.

    Parameters
    ----------
    matrix, dice
        See `distance_matrix` and `dice_by_domain`.
    source
        Name of a domain; None for the first of the matrix.

    Returns
    -------
    tuple of float and int, or None
        r in [-1, 1] and the number of domains; None with fewer than three
        domains, or if all distances or all Dice are equal.
    """
    source = source or next(iter(matrix.names), "")
    pairs = [
        (cell.value, dice[name])
        for name in matrix.names
        if name != source and name in dice and (cell := matrix.between(source, name))
    ]
    if len(pairs) < _LEAST_DOMAINS:
        return None
    distances, scores = np.array(pairs).T
    if not np.ptp(distances) or not np.ptp(scores):
        return None
    return float(np.corrcoef(distances, scores)[0, 1]), len(pairs)


def distance_warnings(sets: Mapping[str, Array], distances: Iterable[FSD]) -> list[str]:
    """Sentences about the reliability of distances between named sets of vectors (N, d)."""
    warnings = []
    for name, rows in sets.items():
        if len(rows) < _LEAST_VECTORS:
            warnings.append(
                f"{name} has {len(rows)} vector{'s' * (len(rows) != 1)}: "
                "no distance can be measured, it takes two."
            )
        elif len(rows) < FEW:
            warnings.append(
                f"{name} has {len(rows)} vectors, fewer than {FEW}: "
                "its distances may change much with other images."
            )
        if len(rows) >= _LEAST_VECTORS and is_collapsed(rows):
            warnings.append(
                f"{name} has vectors that are practically equal: the network does not use its "
                "bottleneck, and distances say nothing."
            )
    if any(fsd.covariance == "ledoit_wolf" for fsd in distances):
        components = next(iter(sets.values())).shape[1]
        warnings.append(
            f"Where a side has fewer than {2 * components} vectors, covariances are shrunk "
            "(Ledoit-Wolf): compare distances of domains that have about as many."
        )
    return warnings
