"""Comboboxes that follow the viewer: a layer of one kind, a model."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QFileDialog, QSizePolicy, QWidget

from napari_msankd.shipped import shipped

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

_OPEN = "Open model file…"


class LayerChoice(QComboBox):
    """Layers of one kind, always those of the viewer.

    Parameters
    ----------
    viewer
        Whose layers.
    kind
        Class of the layers.
    none
        First entry that stands for no layer; there is none if empty.
    """

    chosen = Signal()

    def __init__(self, viewer: "ViewerModel", kind: type, none: str = "") -> None:
        super().__init__()
        self._viewer = viewer
        self._kind = kind
        self._none = none
        self._layers: list[Layer | None] = []
        narrow(self)
        events = viewer.layers.events
        for event in (events.inserted, events.removed, events.reordered, events.renamed):
            event.connect(self.refresh)
        viewer.layers.selection.events.active.connect(self._on_active)
        self.refresh()
        self.currentIndexChanged.connect(self._on_changed)

    @property
    def layer(self) -> Any:
        """The chosen layer; None for none, and while no layer is of the kind."""
        position = self.currentIndex()
        return self._layers[position] if 0 <= position < len(self._layers) else None

    @layer.setter
    def layer(self, layer: "Layer | None") -> None:
        self.setCurrentIndex(self._layers.index(layer))

    def refresh(self, _event: object = None) -> None:
        """Take the layers anew; the choice stays while its layer is there."""
        before = self.layer
        found: list[Layer | None] = [x for x in self._viewer.layers if isinstance(x, self._kind)]
        self._layers = [None, *found] if self._none else found
        self.blockSignals(True)
        self.clear()
        self.addItems([x.name if x is not None else self._none for x in self._layers])
        default = 0 if self._none else len(self._layers) - 1
        self.setCurrentIndex(self._layers.index(before) if before in self._layers else default)
        self.blockSignals(False)
        if self.layer != before:
            self.chosen.emit()

    def _on_changed(self) -> None:
        self.chosen.emit()

    def _on_active(self, event: Any) -> None:
        """Follow the layer list; a choice that may be none is the person's own."""
        if self.isEnabled() and not self._none and event.value in self._layers:
            self.layer = event.value


class ModelChoice(QComboBox):
    """The models that ship, those that were opened, and a way to open another.

    Parameters
    ----------
    none
        First entry that stands for no model; there is none if empty.
    """

    chosen = Signal()

    def __init__(self, none: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        narrow(self)
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
            self.insertItem(self.count() - 1, called(path), path)
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
            self.chosen.emit()


def called(model: Path) -> str:
    """What tells a model file from others: those of runs all have the same few names."""
    folder = model.parent
    if model.stem == "model":
        return folder.name
    return f"{folder.parent.name} {model.stem}" if folder.name == "models" else model.stem


def narrow(box: QComboBox) -> None:
    """Let a long name not widen the dock."""
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(12)
    box.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
