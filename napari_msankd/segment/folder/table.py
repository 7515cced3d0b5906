"""The files of a folder by how good their labels are expected to be."""

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
"""More than any Dice: what has a remark comes before what has none."""


class EntryTable(QTableView):
    """Files, the least trustworthy first; sorted otherwise by a click on a column's title."""

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
        """Names in the order shown."""
        return [self._sorted.index(row, 0).data() for row in range(self._sorted.rowCount())]

    def add(self, entry: "TriageEntry") -> None:
        """Add a file where it belongs."""
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
        """Show no file."""
        self._entries.clear()
        self._items.removeRows(0, self._items.rowCount())
