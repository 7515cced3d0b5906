"""A table of image layers to tick, with the Labels layers that are their masks."""

from collections.abc import Sequence
from typing import Any

from napari.utils.theme import get_theme
from qtpy.QtCore import QEvent, QModelIndex, QObject, QSize, Qt, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QHeaderView,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QTreeWidget,
    QTreeWidgetItem,
    QWidget,
)
from superqt.utils import signals_blocked

from napari_msankd.datasets.layer_pairs import LayerRow
from napari_msankd.formatting import literal
from napari_msankd.workers import timer

_NONE = "no labels"
_SHOWN = 3
_ROW = 22
_IMAGE, _LABELS = 0, 1


class LayerTable(QTreeWidget):
    """Image layers to tick for a dataset, each with its Labels layer.

    Space ticks a row; Enter or a click lists the Labels layers that fit the image.

    Attributes
    ----------
    ticked
        Emitted with an image layer and whether it is ticked.
    paired
        Emitted with an image layer and its new Labels layer or None.
    """

    ticked = Signal(object, bool)
    paired = Signal(object, object)

    def __init__(self) -> None:
        super().__init__()
        self.setColumnCount(2)
        self.setHeaderHidden(True)
        self.setRootIsDecorated(False)
        self.setUniformRowHeights(True)
        self.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFrameShape(QTreeWidget.Shape.NoFrame)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setItemDelegate(_LabelsDelegate(self))
        self.header().setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        self.setToolTip("Images to use, and the Labels layer that is the mask of each")
        self.setAccessibleName("Image layers and their labels")
        self.itemChanged.connect(self._on_changed)
        self.itemClicked.connect(self._on_clicked)

    def set_theme(self, theme: str) -> None:
        """Style the checkboxes like napari's own, in the theme of that name."""
        colors = get_theme(theme)
        self.setStyleSheet(
            "LayerTable { background: transparent; padding: 0; }"
            "LayerTable::indicator { width: 16px; height: 16px; border-radius: 2px;"
            f" background-color: {colors.primary.as_hex()}; }}"
            f"LayerTable::indicator:checked {{ background-color: {colors.current.as_hex()};"
            f' image: url("theme_{theme}:/check.svg"); }}'
        )

    def show_rows(self, rows: Sequence[LayerRow]) -> None:
        """Show rows; if the images are the same, the current row and scroll position are kept."""
        with signals_blocked(self):
            items = [self.topLevelItem(index) for index in range(self.topLevelItemCount())]
            if [item.row.image for item in items] != [row.image for row in rows]:
                self.clear()
                items = [_Item() for _ in rows]
                self.addTopLevelItems(items)
            for item, row in zip(items, rows, strict=True):
                item.show_row(row)
        self.setFixedHeight(min(len(rows), _SHOWN) * _ROW + 4)

    def keyPressEvent(self, event: Any) -> None:
        """List the labels of the current row on Enter."""
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_F2):
            self._open(self.currentItem())
        else:
            super().keyPressEvent(event)

    def _on_changed(self, item: "_Item", column: int) -> None:
        if column == _IMAGE:
            ticked = item.checkState(_IMAGE) == Qt.CheckState.Checked
            self.ticked.emit(item.row.image, ticked)

    def _on_clicked(self, item: "_Item", column: int) -> None:
        if column == _LABELS:
            self._open(item)

    def _open(self, item: Any) -> None:
        if item is not None:
            self.editItem(item, _LABELS)


class _Item(QTreeWidgetItem):
    """An image layer and its Labels layer."""

    row: LayerRow

    def __init__(self) -> None:
        super().__init__()
        self.setFlags(
            Qt.ItemFlag.ItemIsEnabled
            | Qt.ItemFlag.ItemIsSelectable
            | Qt.ItemFlag.ItemIsUserCheckable
            | Qt.ItemFlag.ItemIsEditable
        )
        self.setSizeHint(_IMAGE, QSize(0, _ROW))

    def show_row(self, row: LayerRow) -> None:
        self.row = row
        self.setText(_IMAGE, row.name)
        self.setToolTip(_IMAGE, literal(f"Use image layer {row.name!r}"))
        self.setCheckState(_IMAGE, Qt.CheckState.Checked if row.ticked else Qt.CheckState.Unchecked)
        labels = row.labels_name or _NONE
        self.setText(_LABELS, f"{labels} ▾")
        tip = f"The mask of {row.name!r}: {labels}; click to change"
        self.setToolTip(_LABELS, literal(tip))


class _LabelsDelegate(QStyledItemDelegate):
    """Edits the Labels layer of a row in a combobox that opens immediately."""

    def createEditor(
        self, parent: QWidget, option: QStyleOptionViewItem, index: QModelIndex
    ) -> QWidget | None:
        if index.column() != _LABELS:
            return None
        row = self._row(index)
        choices = (None, *row.candidates)
        box = QComboBox(parent)
        box.addItems([_NONE if layer is None else layer.name for layer in choices])
        box.setToolTip("Labels layers of the image's shape")
        box.setCurrentIndex(choices.index(row.labels))
        box.activated.connect(lambda: self._finish(box))
        # Open the popup when the editor has its position. The timer is a child of the box, so
        # that it does not fire if the box is deleted first.
        timer(box, box.showPopup).start()
        return box

    def setEditorData(self, editor: QWidget, index: QModelIndex) -> None:
        """Do nothing; `createEditor` sets the data."""

    def setModelData(self, editor: QWidget, model: Any, index: QModelIndex) -> None:
        assert isinstance(editor, QComboBox)
        row = self._row(index)
        labels = (None, *row.candidates)[editor.currentIndex()]
        if labels is not row.labels:
            self.parent().paired.emit(row.image, labels)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        # Keep the editor open when its own popup takes the focus.
        if event.type() == QEvent.Type.FocusOut and watched.view().isVisible():
            return False
        return super().eventFilter(watched, event)

    def _finish(self, box: QComboBox) -> None:
        self.commitData.emit(box)
        self.closeEditor.emit(box)

    def _row(self, index: QModelIndex) -> LayerRow:
        row: LayerRow = self.parent().topLevelItem(index.row()).row
        return row
