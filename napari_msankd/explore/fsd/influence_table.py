"""Which images push a domain away: those to look at, and to annotate, first."""

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableWidget, QTableWidgetItem

from napari_msankd.explore.selection import Selection

if TYPE_CHECKING:
    from src_training.explore.fsd_influence import Influence


class InfluenceTable(QTableWidget):
    """Images of one domain, the one that pushes it away most first.

    Parameters
    ----------
    selection
        What is chosen: its images are marked here.

    Attributes
    ----------
    clicked_case
        Emitted with the name of the image that was clicked.
    """

    clicked_case = Signal(str)

    def __init__(self, selection: Selection) -> None:
        super().__init__(0, 3)
        self._selection = selection
        self._domain = ""
        self.setHorizontalHeaderLabels(["image", "pushes away by", "share"])
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        header = self.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        self.verticalHeader().hide()
        self.setToolTip(
            "How much nearer the target would be without each image; below 0 it draws it nearer. "
            "Click one to open it"
        )
        self.cellClicked.connect(self._on_clicked)
        selection.changed.connect(self._mark)

    @property
    def cases(self) -> list[str]:
        """Names of the images, in order."""
        return [self.item(row, 0).text() for row in range(self.rowCount())]

    def draw(self, domain: str, found: "list[Influence]") -> None:
        """Show the contributions of the images of a domain."""
        self._domain = domain
        self.setRowCount(len(found))
        for row, each in enumerate(found):
            known = each.value == each.value
            numbers = (f"{each.value:.3g}", f"{each.share:.1%}") if known else ("—", "—")
            for column, text in enumerate((each.case, *numbers)):
                item = QTableWidgetItem(text)
                side = Qt.AlignmentFlag.AlignRight if column else Qt.AlignmentFlag.AlignLeft
                item.setTextAlignment(side | Qt.AlignmentFlag.AlignVCenter)
                self.setItem(row, column, item)
        self._mark()

    def _on_clicked(self, row: int, _column: int) -> None:
        self.clicked_case.emit(self.item(row, 0).text())

    def _mark(self) -> None:
        """Mark the images of which something is chosen elsewhere."""
        chosen = {s.case for s in self._selection.samples if s.domain == self._domain}
        self.blockSignals(True)
        self.setSelectionMode(QAbstractItemView.SelectionMode.MultiSelection)
        self.clearSelection()
        for row, case in enumerate(self.cases):
            if case in chosen:
                self.selectRow(row)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.blockSignals(False)
