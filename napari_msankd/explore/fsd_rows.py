"""What the FSD page shows, as rows of CSV: unrounded, a head first."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from src_training.evaluation.contributions import Contribution
    from src_training.evaluation.distances import DistanceMatrix
    from src_training.training.follow import RunHistory

Rows = list[list[Any]]


def distance_rows(matrices: "Mapping[str, DistanceMatrix]") -> Rows:
    """A line for each model and pair of domains."""
    rows: Rows = [["model", "a", "b", "fsd", "low", "high", "n_a", "n_b", "covariance"]]
    for model, matrix in matrices.items():
        for row, name in enumerate(matrix.names):
            for column, other in enumerate(matrix.names):
                found = matrix.fsd[row][column]
                if found is not None and row < column:
                    numbers = [found.value, found.low, found.high, found.n_a, found.n_b]
                    rows.append([model, name, other, *numbers, found.covariance])
    return rows


def contribution_rows(found: "Iterable[Contribution]") -> Rows:
    """A line for each image."""
    return [["image", "value", "share"], *([c.case, c.value, c.share] for c in found)]


def course_rows(history: "RunHistory | None") -> Rows:
    """A line for each domain and measured step of a run."""
    rows: Rows = [["domain", "step", "fsd"]]
    for name, series in (history.fsd if history else {}).items():
        rows += [
            [name, step, value] for step, value in zip(series.steps, series.values, strict=True)
        ]
    return rows


def dice_rows(matrices: "Mapping[str, DistanceMatrix]", dice: "Mapping[str, Mapping]") -> Rows:
    """A line for each model and domain: FSD to the first, and Dice where it is known."""
    rows: Rows = [["model", "domain", "vectors", "fsd", "dice"]]
    for model, matrix in matrices.items():
        for name, found in zip(matrix.names, matrix.fsd[0], strict=True):
            if name != "masks":
                known = ["", ""] if found is None else [found.n_b, found.value]
                rows.append([model, name, *known, dice[model].get(name, "")])
    return rows
