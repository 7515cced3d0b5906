"""Numbers of the FSD page as rows of CSV with a header, unrounded."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from src_training.explore.fsd_influence import Influence
    from src_training.explore.fsd_matrix import DistanceMatrix
    from src_training.runs.history import RunHistory

Rows = list[list[Any]]


def distance_rows(model: str, matrix: "DistanceMatrix") -> Rows:
    """A row for each pair of domains."""
    rows: Rows = [["model", "a", "b", "fsd", "low", "high", "n_a", "n_b", "covariance"]]
    for row, name in enumerate(matrix.names):
        for column, other in enumerate(matrix.names):
            fsd = matrix.fsd[row][column]
            if fsd is not None and row < column:
                numbers = [fsd.value, fsd.low, fsd.high, fsd.n_a, fsd.n_b]
                rows.append([model, name, other, *numbers, fsd.covariance])
    return rows


def influence_rows(model: str, source: str, target: str, influences: "Iterable[Influence]") -> Rows:
    """A row for each image of the target."""
    rows: Rows = [["model", "from", "to", "image", "value", "share"]]
    return rows + [[model, source, target, c.case, c.value, c.share] for c in influences]


def history_rows(run: Path, history: "RunHistory") -> Rows:
    """A row for each domain and measured step of a run."""
    rows: Rows = [["run", "domain", "step", "fsd"]]
    for name, series in history.fsd.items():
        pairs = zip(series.steps, series.values, strict=True)
        rows += [[run.name, name, step, value] for step, value in pairs]
    return rows


def dice_rows(model: str, matrix: "DistanceMatrix", dice: Mapping[str, float]) -> Rows:
    """A row for each domain: FSD to the first domain, and Dice if known."""
    rows: Rows = [["model", "domain", "vectors", "fsd_to", "fsd", "dice"]]
    for name, fsd in zip(matrix.names, matrix.fsd[0], strict=True):
        if name != "masks":
            count, value = ("", "") if fsd is None else (fsd.n_b, fsd.value)
            rows.append([model, name, count, matrix.names[0], value, dice.get(name, "")])
    return rows
