"""A combobox of layers of one kind, always those of the viewer."""

from typing import TYPE_CHECKING, Any

from qtpy.compat import isalive
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox
from superqt.utils import signals_blocked

from napari_msankd.masks import is_mask_like
from napari_msankd.widgets.layout import elide_combo

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer


class LayerCombo(QComboBox):
    """Layers of one kind, always those of the viewer.

    magicgui's own finds its viewer only inside a docked window, and loses the choice when a
    layer is renamed.

    Parameters
    ----------
    viewer
        Whose layers.
    kind
        Class of the layers.
    none
        First entry that stands for no layer. If empty, a layer is chosen where there is one
        that is no mask and no result, and the choice follows the layer list.

    Attributes
    ----------
    changed
        Emitted when another layer is chosen, by a person or because the former one is gone.
    """

    changed = Signal()

    def __init__(self, viewer: "ViewerModel", kind: type, none: str = "") -> None:
        super().__init__()
        self._viewer = viewer
        self._kind = kind
        self._none = none
        self._layers: list[Layer | None] = []
        elide_combo(self)
        self.setPlaceholderText("none" if none else "choose a layer")
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
        self.setCurrentIndex(self._layers.index(layer) if layer in self._layers else -1)

    def refresh(self, _event: object = None) -> None:
        """Take the layers anew; the choice stays while its layer is there."""
        # napari refers to it weakly: it may live on a while after its widget.
        if not isalive(self):
            return
        before = self.layer
        layers: list[Layer | None] = [x for x in self._viewer.layers if isinstance(x, self._kind)]
        self._layers = [None, *layers] if self._none else layers
        with signals_blocked(self):
            self.clear()
            self.addItems([x.name if x is not None else self._none for x in self._layers])
            self.layer = before if before in self._layers else self._default()
        if self.layer != before:
            self.changed.emit()

    def _default(self) -> "Layer | None":
        if self._none:
            return None
        layers = reversed(self._layers)
        return next((x for x in layers if x is not None and not is_mask_like(x)), None)

    def _on_changed(self) -> None:
        self.changed.emit()

    def _on_active(self, event: Any) -> None:
        """Follow the layer list; a choice that may be none is the person's own."""
        if not isalive(self) or not self.isEnabled() or self._none:
            return
        if event.value in self._layers and not is_mask_like(event.value):
            self.layer = event.value
