"""A combobox of layers of one kind, always those of the viewer."""

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox

from napari_msankd.widgets.layout import elide_combo

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer


class LayerCombo(QComboBox):
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

    changed = Signal()

    def __init__(self, viewer: "ViewerModel", kind: type, none: str = "") -> None:
        super().__init__()
        self._viewer = viewer
        self._kind = kind
        self._none = none
        self._layers: list[Layer | None] = []
        elide_combo(self)
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
            self.changed.emit()

    def _on_changed(self) -> None:
        self.changed.emit()

    def _on_active(self, event: Any) -> None:
        """Follow the layer list; a choice that may be none is the person's own."""
        if self.isEnabled() and not self._none and event.value in self._layers:
            self.layer = event.value
