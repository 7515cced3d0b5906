"""A table of files, sorted by the expected Dice of their labels."""

from typing import TYPE_CHECKING

from qtpy.QtCore import QModelIndex, QSortFilterProxyModel, Qt
from qtpy.QtGui import QStandardItem, QStandardItemModel
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableView

from napari_msankd.formatting import literal
from napari_msankd.segment.folder.state import entry_cells

if TYPE_CHECKING:
    from src_training.reports.triage import TriageEntry

_COLUMNS = ("File", "Expected Dice", "Remark")
_SORT = Qt.ItemDataRole.UserRole + 1
_TRUSTED = 10.0
"""Sort offset above any Dice, so that files with a remark come first."""


class EntryTable(QTableView):
    """Files, the least trustworthy first; a click on a column header changes the order."""

    def __init__(self) -> None:
        super().__init__()
        self._entries: list[TriageEntry] = []
        self._items = QStandardItemModel(0, len(_COLUMNS), self)
        self._items.setHorizontalHeaderLabels(_COLUMNS)
        self._sorted = QSortFilterProxyModel(self)
        self._sorted.setSourceModel(self._items)
        self._sorted.setSortRole(_SORT)
        self.setModel(self._sorted)
        self.setSortingEnabled(True)
        self.sortByColumn(1, Qt.SortOrder.AscendingOrder)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setWordWrap(False)
        self.verticalHeader().hide()
        self.setToolTip("Click a row to open the image with its labels")
        header = self.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
        header.resizeSection(0, 150)
        header.resizeSection(1, 120)
        header.setStretchLastSection(True)

    @property
    def files(self) -> list[str]:
        """Names of the files in display order."""
        return [self._sorted.index(row, 0).data() for row in range(self._sorted.rowCount())]

    def add(self, entry: "TriageEntry") -> None:
        """Add a file at its sorted position."""
        value = -1.0 if entry.image is None else entry.image.expected.value
        cells = entry_cells(entry)
        keys = (cells[0].lower(), value + (0 if entry.remark else _TRUSTED), cells[2])
        items = []
        for text, key in zip(cells, keys, strict=True):
            item = QStandardItem(text)
            item.setData(key, _SORT)
            item.setData(len(self._entries), Qt.ItemDataRole.UserRole)
            item.setToolTip(literal(text))
            items.append(item)
        self._entries.append(entry)
        self._items.appendRow(items)

    def entry(self, index: QModelIndex) -> "TriageEntry":
        """The file of a row."""
        return self._entries[index.data(Qt.ItemDataRole.UserRole)]

    def clear(self) -> None:
        """Remove all files."""
        self._entries.clear()
        self._items.removeRows(0, self._items.rowCount())
