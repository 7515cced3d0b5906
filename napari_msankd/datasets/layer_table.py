"""Rows of image layers to tick, each with the Labels layer that is its mask."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from napari.utils.theme import get_theme
from qtpy.QtCore import QEvent, QModelIndex, QObject, QSize, Qt, QTimer, Signal
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

from napari_msankd.datasets.layer_pairs import fits, is_result, matched
from napari_msankd.datasets.summary import Masks

if TYPE_CHECKING:
    from napari.layers import Image, Labels

_NONE = "no labels"
_IN_SIGHT = 3
_ROW = 22
_IMAGE, _LABELS = 0, 1


class LayerTable(QTreeWidget):
    """Which image layers belong to a domain, and where their masks are.

    Pairs are matched by themselves; what a person changes stays. Space ticks
    a row; Enter or a click lists the Labels layers that fit its image.

    Parameters
    ----------
    masks
        With ``required``, images that have labels are ticked, whenever they
        come, unless a model of ours made the labels; with ``optional`` those
        that have none, or all if every one has some, of the images that are
        there first. Others wait for a person.

    Attributes
    ----------
    changed
        Emitted when a person changes what is ticked, or its labels.
    """

    changed = Signal()

    def __init__(self, masks: Masks) -> None:
        super().__init__()
        self._masks = masks
        self._rows: list[_Row] = []
        self._ticked: dict[str, bool] = {}
        self._paired: dict[str, str | None] = {}
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

    @property
    def pairs(self) -> list[tuple["Image", "Labels | None"]]:
        """The ticked images and their labels."""
        return [(row.image, row.labels) for row in self._rows if row.ticked]

    def __len__(self) -> int:
        return len(self._rows)

    def dress(self, theme: str) -> None:
        """Let the ticks look like napari's own, in the theme of that name."""
        colours = get_theme(theme)
        self.setStyleSheet(
            "LayerTable { background: transparent; padding: 0; }"
            "LayerTable::indicator { width: 16px; height: 16px; border-radius: 2px;"
            f" background-color: {colours.primary.as_hex()}; }}"
            f"LayerTable::indicator:checked {{ background-color: {colours.current.as_hex()};"
            f' image: url("theme_{theme}:/check.svg"); }}'
        )

    def show_layers(self, images: Sequence["Image"], labels: Sequence["Labels"]) -> None:
        """Make the rows anew for the layers there are."""
        by_id = {layer.unique_id: layer for layer in labels}
        pairs = [
            by_id.get(self._paired[image.unique_id] or "")
            if image.unique_id in self._paired
            else guess
            for image, guess in zip(images, matched(images, labels), strict=True)
        ]
        bare, first = None in pairs, not self._ticked
        self.blockSignals(True)
        self.clear()
        self._rows = []
        for image, mask in zip(images, pairs, strict=True):
            # What a model found is nothing to learn from, until a person says so.
            wanted = mask is not None and not is_result(mask)
            if self._masks != "required":
                wanted = first and (mask is None or not bare)
                self._ticked.setdefault(image.unique_id, wanted)
            row = _Row(image, mask, [layer for layer in labels if fits(image, layer)])
            row.ticked = self._ticked.get(image.unique_id, wanted)
            self._rows.append(row)
        self.addTopLevelItems(self._rows)
        self.blockSignals(False)
        self.setFixedHeight(min(len(self._rows), _IN_SIGHT) * _ROW + 4)

    def pair(self, row: int, labels: "Labels | None") -> None:
        """Say which Labels layer is the mask of the image in a row."""
        item = self._rows[row]
        self._paired[item.image.unique_id] = None if labels is None else labels.unique_id
        self.blockSignals(True)
        item.labels = labels
        if labels is not None and self._masks == "required":
            # Whoever says where the mask is wants the image.
            self._ticked[item.image.unique_id] = item.ticked = True
        self.blockSignals(False)
        self.viewport().update()
        self.changed.emit()

    def keyPressEvent(self, event: Any) -> None:
        """List the labels of the current row on Enter."""
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_F2):
            self._open(self.currentItem())
        else:
            super().keyPressEvent(event)

    def _on_changed(self, item: "_Row", column: int) -> None:
        if column == _IMAGE:
            self._ticked[item.image.unique_id] = item.ticked
            self.changed.emit()

    def _on_clicked(self, item: "_Row", column: int) -> None:
        if column == _LABELS:
            self._open(item)

    def _open(self, item: Any) -> None:
        if item is not None:
            self.editItem(item, _LABELS)


class _Row(QTreeWidgetItem):
    """An image layer, and the Labels layers that fit it."""

    def __init__(
        self, image: "Image", labels: "Labels | None", fitting: Sequence["Labels"]
    ) -> None:
        super().__init__()
        self.image = image
        self.fitting: list[Labels | None] = [None, *fitting]
        self.setFlags(
            Qt.ItemFlag.ItemIsEnabled
            | Qt.ItemFlag.ItemIsSelectable
            | Qt.ItemFlag.ItemIsUserCheckable
            | Qt.ItemFlag.ItemIsEditable
        )
        self.setSizeHint(_IMAGE, QSize(0, _ROW))
        self.setText(_IMAGE, image.name)
        self.setToolTip(_IMAGE, f"Use image layer {image.name!r}")
        self.labels = labels

    @property
    def ticked(self) -> bool:
        """Whether the image belongs to the domain."""
        return self.checkState(_IMAGE) == Qt.CheckState.Checked

    @ticked.setter
    def ticked(self, on: bool) -> None:
        self.setCheckState(_IMAGE, Qt.CheckState.Checked if on else Qt.CheckState.Unchecked)

    @property
    def labels(self) -> "Labels | None":
        """The layer that is its mask."""
        return self._labels

    @labels.setter
    def labels(self, labels: "Labels | None") -> None:
        self._labels = labels
        name = _NONE if labels is None else labels.name
        self.setText(_LABELS, f"{name} ▾")
        self.setToolTip(_LABELS, f"The mask of {self.image.name!r}: {name}; click to change")


class _LabelsDelegate(QStyledItemDelegate):
    """Lists the Labels layers of a row in a combobox that opens at once."""

    def createEditor(
        self, parent: QWidget, option: QStyleOptionViewItem, index: QModelIndex
    ) -> QWidget | None:
        if index.column() != _LABELS:
            return None
        row = self._row(index)
        box = QComboBox(parent)
        box.addItems([_NONE if layer is None else layer.name for layer in row.fitting])
        box.setToolTip("Labels layers of the image's shape")
        box.setCurrentIndex(row.fitting.index(row.labels))
        box.activated.connect(lambda: self._finish(box))
        # Once it has its place; not at all if it is gone by then.
        opening = QTimer(box)
        opening.setSingleShot(True)
        opening.timeout.connect(box.showPopup)
        opening.start(0)
        return box

    def setEditorData(self, editor: QWidget, index: QModelIndex) -> None:
        """The editor is made with its data."""

    def setModelData(self, editor: QWidget, model: Any, index: QModelIndex) -> None:
        assert isinstance(editor, QComboBox)
        chosen = self._row(index).fitting[editor.currentIndex()]
        if chosen != self._row(index).labels:
            self.parent().pair(index.row(), chosen)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        # The popup takes the focus: that is no reason to close the editor.
        if event.type() == QEvent.Type.FocusOut and watched.view().isVisible():
            return False
        return super().eventFilter(watched, event)

    def _finish(self, box: QComboBox) -> None:
        self.commitData.emit(box)
        self.closeEditor.emit(box)

    def _row(self, index: QModelIndex) -> Any:
        return self.parent().topLevelItem(index.row())
