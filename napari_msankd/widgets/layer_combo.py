"""A combobox of layers."""

from typing import TYPE_CHECKING, Any

from qtpy.compat import isalive
from qtpy.QtCore import Signal
from superqt.utils import signals_blocked

from napari_msankd.masks import is_mask_like
from napari_msankd.widgets.layout import ElidingComboBox

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer


class LayerCombo(ElidingComboBox):
    """The viewer's layers of one class, kept up to date.

    magicgui's layer combobox finds its viewer only inside a docked window, and loses the
    choice when a layer is renamed.

    Parameters
    ----------
    viewer
        The viewer.
    kind
        Class of the layers.
    none
        First entry, which means no layer. If empty, a layer that is neither a mask nor a
        result is chosen by default, and the choice follows the active layer.

    Attributes
    ----------
    changed
        Emitted when the choice changes, by the user or because the former layer was removed.
    """

    changed = Signal()

    def __init__(self, viewer: "ViewerModel", kind: type, none: str = "") -> None:
        super().__init__()
        self._viewer = viewer
        self._kind = kind
        self._none = none
        self._layers: list[Layer | None] = []
        self.setPlaceholderText("none" if none else "choose a layer")
        events = viewer.layers.events
        for event in (events.inserted, events.removed, events.reordered, events.renamed):
            event.connect(self.refresh)
        viewer.layers.selection.events.active.connect(self._on_active)
        self.refresh()
        self.currentIndexChanged.connect(self._on_changed)

    @property
    def layer(self) -> Any:
        """The chosen layer; None if there is none."""
        position = self.currentIndex()
        return self._layers[position] if 0 <= position < len(self._layers) else None

    @layer.setter
    def layer(self, layer: "Layer | None") -> None:
        self.setCurrentIndex(self._layers.index(layer) if layer in self._layers else -1)

    def refresh(self, _event: object = None) -> None:
        """List the layers again; the choice is kept while its layer exists."""
        # napari holds a weak reference, so this can be called after Qt deleted the widget.
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
        """Follow the active layer, unless the choice is optional."""
        if not isalive(self) or not self.isEnabled() or self._none:
            return
        if event.value in self._layers and not is_mask_like(event.value):
            self.layer = event.value
