"""FSD between all domains of a table, and what it has to do with their Dice."""

import csv
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from src_training.errors import InputError
from src_training.explore.embedding_table import EmbeddingTable
from src_training.explore.fsd import FSD, all_alike, frechet_distance
from src_training.io.atomic import write_text

Array = NDArray[np.float64]

MASKS = "masks"
"""What the vectors of kind ``mask`` are called in a matrix."""

FEW = 30
"""Below so many vectors a distance comes with a warning."""

_LEAST = 2
_LEAST_DOMAINS = 3


@dataclass(frozen=True)
class DistanceMatrix:
    """FSD between every two sets of vectors.

    Attributes
    ----------
    names
        Domains in the order of the table, then `MASKS` where there are any.
    fsd
        Row by row; None where a side has fewer than two vectors, 0 with
        itself. `FSD.n_a` is the row's count, `FSD.n_b` the column's.
    warnings
        What weakens the distances, in sentences.
    """

    names: tuple[str, ...]
    fsd: list[list[FSD | None]]
    warnings: list[str]

    def between(self, a: str, b: str) -> FSD | None:
        """The distance of two sets by their names; ValueError if one is not in `names`."""
        return self.fsd[self.names.index(a)][self.names.index(b)]

    def to_csv(self, path: Path) -> None:
        """Write every cell as a line; empty where there is no distance.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["from", "to", "fsd", "low", "high", "n_from", "n_to", "covariance"])
        for a, row in zip(self.names, self.fsd, strict=True):
            for b, cell in zip(self.names, row, strict=True):
                writer.writerow([a, b, *_told(cell)])
        write_text(path, text.getvalue())


def vectors_by_name(table: EmbeddingTable) -> dict[str, Array]:
    """The vectors (N, d) of each domain's patches as they are, and of all masks as `MASKS`.

    Augmented views are left out: they would pass for further patches.

    Raises
    ------
    InputError
        If a domain is called as the masks are.
    """
    found = {
        domain: table.where(domain=domain, kind="image", view=0).values
        for domain in dict.fromkeys(table.domains)
    }
    masks = table.where(kind="mask").values
    if len(masks):
        if MASKS in found:
            raise InputError(f"a domain is called {MASKS}; expected another name beside the masks")
        found[MASKS] = masks
    return found


def distance_matrix(table: EmbeddingTable) -> DistanceMatrix:
    """FSD between every two domains, and between each and the masks' prior.

    Parameters
    ----------
    table
        Rows of any domains; see `vectors_by_name` for those that count.

    Raises
    ------
    InputError
        If a domain is called as the masks are, or a vector is not finite.
    """
    sets = vectors_by_name(table)
    names, rows = tuple(sets), list(sets.values())
    matrix: list[list[FSD | None]] = [[None] * len(names) for _ in names]
    for i, a in enumerate(rows):
        for j, b in enumerate(rows[: i + 1]):
            if min(len(a), len(b)) < _LEAST:
                continue
            found = frechet_distance(b, a, interval=i != j)
            if i == j:
                found = replace(found, value=0.0, low=0.0, high=0.0)
            matrix[j][i] = found
            matrix[i][j] = replace(found, n_a=found.n_b, n_b=found.n_a)
    return DistanceMatrix(
        names, matrix, warnings_of(sets, (cell for row in matrix for cell in row if cell))
    )


def dice_by_domain(table: EmbeddingTable) -> dict[str, float]:
    """Domain -> mean Dice over its patches as they are; domains without masks are left out."""
    found = {}
    for domain in dict.fromkeys(table.domains):
        dice = table.where(domain=domain, kind="image", view=0).dice
        if not np.isnan(dice).all():
            found[domain] = float(np.nanmean(dice))
    return found


def correlation(
    matrix: DistanceMatrix, dice: Mapping[str, float], source: str | None = None
) -> tuple[float, int] | None:
    """Pearson's r between the FSD from a source and the Dice of the other domains.

    Parameters
    ----------
    matrix, dice
        See `distance_matrix` and `dice_by_domain`.
    source
        The first name of the matrix when missing.

    Returns
    -------
    tuple of float and int, or None
        r, and the number of domains it is over; None with fewer than three,
        or where either does not vary.
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


def warnings_of(sets: Mapping[str, Array], distances: Iterable[FSD]) -> list[str]:
    """What speaks against distances between sets of vectors (N, d) by name, a sentence each."""
    said = []
    for name, rows in sets.items():
        if len(rows) < _LEAST:
            said.append(
                f"{name} has {len(rows)} vector{'s' * (len(rows) != 1)}: "
                "no distance can be measured, it takes two."
            )
        elif len(rows) < FEW:
            said.append(
                f"{name} has {len(rows)} vectors, fewer than {FEW}: "
                "its distances may change much with other images."
            )
        if len(rows) >= _LEAST and all_alike(rows):
            said.append(
                f"{name} has vectors that are all alike: the network makes nothing of its "
                "bottleneck, and distances say nothing."
            )
    if any(each.covariance == "ledoit_wolf" for each in distances):
        components = next(iter(sets.values())).shape[1]
        said.append(
            f"Where a side has fewer than {2 * components} vectors, covariances are shrunk "
            "(Ledoit-Wolf): compare distances of domains that have about as many."
        )
    return said


def _told(cell: FSD | None) -> list[str]:
    if cell is None:
        return [""] * 6
    interval = [cell.low, cell.high] if cell.has_interval else [math.nan, math.nan]
    numbers = ["" if math.isnan(n) else f"{n:.9g}" for n in (cell.value, *interval)]
    return [*numbers, str(cell.n_a), str(cell.n_b), cell.covariance]
