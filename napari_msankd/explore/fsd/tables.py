"""Tables of the FSD page: influence of images, and Dice of domains."""

from collections.abc import Iterable, Sequence
from math import isnan
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableWidget, QTableWidgetItem
from superqt.utils import signals_blocked

from napari_msankd.explore.state import ExploreState
from src_training.formatting import format_number

if TYPE_CHECKING:
    from collections.abc import Mapping

    from src_training.explore.fsd_influence import Influence
    from src_training.explore.fsd_matrix import DistanceMatrix

_FEW_DOMAINS = 10


class NumberTable(QTableWidget):
    """A read-only table with a column of names and columns of numbers.

    Parameters
    ----------
    columns
        Headers of the columns.
    tip
        Tooltip of the table.
    """

    def __init__(self, columns: Sequence[str], tip: str) -> None:
        super().__init__(0, len(columns))
        self.setHorizontalHeaderLabels(list(columns))
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.verticalHeader().hide()
        self.setToolTip(tip)
        header = self.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)

    @property
    def names(self) -> list[str]:
        """Texts of the first column."""
        return [self.item(row, 0).text() for row in range(self.rowCount())]

    def fill(self, rows: Iterable[Sequence[str]]) -> None:
        """Show rows of cells."""
        cells_by_row = list(rows)
        self.setRowCount(len(cells_by_row))
        for row, cells in enumerate(cells_by_row):
            for column, text in enumerate(cells):
                item = QTableWidgetItem(text)
                side = Qt.AlignmentFlag.AlignRight if column else Qt.AlignmentFlag.AlignLeft
                item.setTextAlignment(side | Qt.AlignmentFlag.AlignVCenter)
                self.setItem(row, column, item)


class InfluenceTable(NumberTable):
    """Images of one domain by their influence on its distance, largest first.

    Parameters
    ----------
    state
        State of the Explore widget, whose selection is marked.

    Attributes
    ----------
    clicked_case
        Emitted with the name of a clicked image.
    """

    clicked_case = Signal(str)

    def __init__(self, state: ExploreState) -> None:
        super().__init__(
            ("image", "FSD contribution", "share"),
            "How much smaller the distance would be without each image; negative values reduce "
            "the distance. Click an image to open it",
        )
        self._state, self._domain = state, ""
        self.cellClicked.connect(lambda row, _: self.clicked_case.emit(self.names[row]))
        state.events.selection.connect(self._mark)

    def draw(self, domain: str, influences: "Sequence[Influence]") -> None:
        """Show the influence of the images of a domain."""
        self._domain = domain
        self.fill(
            (image.case, "—", "—")
            if isnan(image.value)
            else (image.case, format_number(image.value), f"{image.share:.1%}")
            for image in influences
        )
        self._mark()

    def _mark(self, _selection: object = None) -> None:
        """Select the rows of images with selected samples."""
        selected = {s.case for s in self._state.selection.samples if s.domain == self._domain}
        with signals_blocked(self):
            self.setSelectionMode(QAbstractItemView.SelectionMode.MultiSelection)
            self.clearSelection()
            for row, case in enumerate(self.names):
                if case in selected:
                    self.selectRow(row)
            self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)


def dice_cells(matrix: "DistanceMatrix", dice: "Mapping[str, float]") -> Iterable[Sequence[str]]:
    """A row for each domain: vectors, FSD to the first, Dice of its patches."""
    for name, fsd in zip(matrix.names, matrix.fsd[0], strict=True):
        if name != "masks":
            yield (
                name,
                "< 2" if fsd is None else f"{fsd.n_b}",
                "—" if fsd is None else format_number(fsd.value),
                f"{dice[name]:.3f}" if name in dice else "—",
            )


def correlation_text(first: str, correlation: tuple[float, int] | None) -> str:
    """Message about the correlation of Dice with FSD to the first domain."""
    if correlation is None:
        return f"FSD to {first}. Too few domains with masks to correlate it with Dice."
    r, count = correlation
    few = f"; {count} domains are too few for a conclusion" if count < _FEW_DOMAINS else ""
    return f"FSD to {first}. Dice and FSD: Pearson r = {r:.2f} over {count} domains{few}."
