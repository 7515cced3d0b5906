"""A combobox of models, and a way to open another."""

from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QFileDialog, QWidget

from napari_msankd.shipped import shipped
from napari_msankd.widgets.layout import elide_combo

_OPEN = "Open model file…"


class ModelCombo(QComboBox):
    """The models that ship, those that were opened, and a way to open another.

    Parameters
    ----------
    none
        First entry that stands for no model; there is none if empty.
    """

    changed = Signal()

    def __init__(self, none: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        elide_combo(self)
        self._last = -1
        if none:
            self.addItem(none, None)
        for path in shipped():
            self.addItem(path.stem, path)
        if self.count() == 0:
            self.addItem("no model yet", None)
        self.addItem(_OPEN, None)
        self._last = 0
        self.activated.connect(self._on_activated)
        self.currentIndexChanged.connect(self._on_changed)

    @property
    def path(self) -> Path | None:
        """File of the chosen model; None if there is none."""
        data = self.currentData()
        return data if isinstance(data, Path) else None

    def open(self, path: Path) -> None:
        """Add a model file and choose it."""
        known = [self.itemData(i) for i in range(self.count())]
        if path not in known:
            self.insertItem(self.count() - 1, display_name(path), path)
            known.insert(self.count() - 2, path)
        self.setCurrentIndex(known.index(path))

    def _on_activated(self, position: int) -> None:
        if self.itemText(position) != _OPEN:
            return
        self.setCurrentIndex(self._last)
        title, kinds = "Open model file", "Models (*.safetensors)"
        name, _ = QFileDialog.getOpenFileName(self, title, "", kinds)
        if name:
            self.open(Path(name))

    def _on_changed(self, position: int) -> None:
        if self.itemText(position) != _OPEN and position != self._last:
            self._last = position
            self.changed.emit()


def display_name(model: Path) -> str:
    """What tells a model file from others: those of runs all have the same few names."""
    folder = model.parent
    if model.stem == "model":
        return folder.name
    return f"{folder.parent.name} {model.stem}" if folder.name == "models" else model.stem
