"""A combobox of models: shipped, trained and opened ones, and commands to open and manage them."""

from pathlib import Path

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QStandardItem, QStandardItemModel
from qtpy.QtWidgets import QFileDialog, QWidget
from superqt.utils import signals_blocked

from napari_msankd.formatting import literal
from napari_msankd.settings import library
from napari_msankd.widgets.layout import ElidingComboBox
from napari_msankd.widgets.model_dialog import ModelDialog, entry_text, entry_tip, library_changes
from src_training.runs.library import ModelEntry, run_of

_OPEN, _MANAGE = "Open model file…", "Manage models…"
_ELSEWHERE = "A model from elsewhere (ONNX, bioimage.io)…"
_GROUPS = {"shipped": "Shipped", "run": "Trained by your runs", "file": "Model files"}


class ModelCombo(ElidingComboBox):
    """All models of the user's library, grouped by origin.

    Parameters
    ----------
    none
        First entry, which means no model; omitted if empty.
    elsewhere
        Whether to offer models in other formats (ONNX, bioimage.io).

    Attributes
    ----------
    changed
        Emitted when the choice changes.
    elsewhere_asked
        Emitted when the user asks for a model in another format.
    """

    changed = Signal()
    elsewhere_asked = Signal()

    def __init__(
        self, none: str = "", parent: QWidget | None = None, elsewhere: bool = False
    ) -> None:
        super().__init__(parent)
        self._none, self._elsewhere = none, elsewhere
        self._path: Path | None = None
        self.entries = library().list_models()
        if not none:
            self._path = self._first()
        self._items = QStandardItemModel(self)
        self.setModel(self._items)
        self._list()
        self.activated.connect(self._on_activated)
        library_changes.changed.connect(self.refresh)

    @property
    def path(self) -> Path | None:
        """File of the chosen model; None if there is none."""
        return self._path

    @property
    def entry(self) -> ModelEntry | None:
        """The library's entry of the chosen model; None if there is none."""
        return next((entry for entry in self.entries if entry.path == self._path), None)

    def open(self, path: Path) -> None:
        """Choose a model file, and add it to the library if it is not listed."""
        path = path.absolute()
        if all(path != entry.path for entry in self.entries):
            library().remember(path)
            library_changes.changed.emit()
        self._choose(path)

    def show_elsewhere(self, path: Path) -> None:
        """Choose a model in another format, without adding it to the library."""
        self._choose(path)

    def refresh(self) -> None:
        """List the models again; the choice is kept unless its file was deleted."""
        self.entries = library().list_models()
        former = self._path
        if former is not None and not former.exists():
            self._path = None if self._none else self._first()
        self._list()
        if self._path != former:
            self.changed.emit()

    def showPopup(self) -> None:
        """Refresh the list, and show it wide enough for its entries."""
        self.refresh()
        self.view().setMinimumWidth(self.view().sizeHintForColumn(0) + 24)
        super().showPopup()

    def _first(self) -> Path | None:
        return next((entry.path for entry in self.entries), None)

    def _list(self) -> None:
        """Fill the list: no model, the groups of models, and the commands."""
        items = [_item(self._none or "no model yet", None)] if self._none or not self._path else []
        for origin, title in _GROUPS.items():
            group = [entry for entry in self.entries if entry.origin == origin]
            items += [_heading(title)] if group else []
            items += [_item(entry_text(entry), entry.path, entry_tip(entry)) for entry in group]
        if self._path is not None and self.entry is None:
            items.append(_item(self._path.stem, self._path))
        actions = (_OPEN, *((_ELSEWHERE,) if self._elsewhere else ()), _MANAGE)
        items += [_item(action, action) for action in actions]
        with signals_blocked(self):
            self._items.clear()
            self._items.invisibleRootItem().appendRows(items)
        self._select()

    def _select(self) -> None:
        data = [self.itemData(row) for row in range(self.count())]
        self.setCurrentIndex(data.index(self._path))

    def _choose(self, path: Path | None) -> None:
        if path == self._path:
            return
        self._path = path
        self._list()
        self.changed.emit()

    def _on_activated(self, position: int) -> None:
        data = self.itemData(position)
        if isinstance(data, str):
            self._select()
            {
                _OPEN: self._ask_for_file,
                _ELSEWHERE: self.elsewhere_asked.emit,
                _MANAGE: self._manage,
            }[data]()
        else:
            self._choose(data)

    def _ask_for_file(self) -> None:
        name, _ = QFileDialog.getOpenFileName(self, "Open model file", "", "Models (*.safetensors)")
        if name:
            self.open(Path(name))

    def _manage(self) -> None:
        dialog = ModelDialog(library(), self)
        dialog.choose(self._path)
        dialog.exec()
        dialog.deleteLater()


def display_name(model: Path) -> str:
    """Title of a model in lists: the name of its file, or its run and role."""
    listed = (entry.title for entry in library().list_models() if entry.path == model)
    run = run_of(model)
    return next(listed, f"{run.name} · {model.stem}" if run else model.stem)


def _item(text: str, data: object, tip: str = "") -> QStandardItem:
    item = QStandardItem(text)
    item.setData(data, Qt.ItemDataRole.UserRole)
    item.setToolTip(literal(tip))
    return item


def _heading(title: str) -> QStandardItem:
    item = QStandardItem(title)
    item.setFlags(Qt.ItemFlag.NoItemFlags)
    font = item.font()
    font.setBold(True)
    item.setFont(font)
    return item
