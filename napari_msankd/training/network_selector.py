"""A row of the Setup page for the teacher or the student: a new network, or a model."""

from collections.abc import Mapping

from magicgui.widgets import ComboBox
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_msankd.training.run_request import NetworkChoice
from napari_msankd.widgets.layout import elide_combo
from napari_msankd.widgets.model_combo import ModelCombo
from napari_msankd.widgets.wrapping_label import WrappingLabel


class NetworkSelector(QWidget):
    """A new network by its name, or any model of the person's to start from.

    Parameters
    ----------
    networks
        Title of each new network by its name; the first is the default.
    may_freeze
        Whether a model can be used as it is, as a teacher can.
    title
        For a screen reader, such as ``Teacher``.

    Attributes
    ----------
    changed
        Emitted when the choice is another one.
    model, network, training
        The controls: which model, which new network, and whether a model is trained.
    """

    changed = Signal()

    def __init__(self, networks: Mapping[str, str], title: str, may_freeze: bool = False) -> None:
        super().__init__()
        self._may_freeze = may_freeze
        self.model = ModelCombo(none="New network")
        self.model.setAccessibleName(f"{title}: new network or model")
        self.model.setToolTip(
            "A new network, or a model to start from: shipped, trained by a run, or a file"
        )
        self.network = choices(networks, f"{title}: network")
        self.training = choices(
            {True: "Fine-tune on the sources", False: "Keep frozen: use as it is"},
            f"{title}: training",
        )
        self.training.tooltip = (
            "Fine-tune: the weights are trained further, for a third of the steps. "
            "Keep frozen: nothing is trained, which saves the longest stage"
        )
        self.note = WrappingLabel("Fine-tuned on the sources, for a third of the steps.")
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setSpacing(4)
        for part in (self.model, self.network.native, self.training.native, self.note):
            rows.addWidget(part)
        self.setFocusProxy(self.model)
        self.model.changed.connect(self._on_model)
        self.network.changed.connect(self._emit)
        self.training.changed.connect(self._emit)
        self._show_controls()

    def value(self) -> NetworkChoice:
        """The choice."""
        model = self.model.path
        train = model is None or not self._may_freeze or bool(self.training.value)
        return NetworkChoice(str(self.network.value), model, train)

    def _on_model(self) -> None:
        self._show_controls()
        self.changed.emit()

    def _emit(self) -> None:
        self.changed.emit()

    def _show_controls(self) -> None:
        new = self.model.path is None
        self.network.native.setVisible(new)
        self.training.native.setVisible(not new and self._may_freeze)
        self.note.setVisible(not new and not self._may_freeze)


def choices(titles: Mapping[object, str] | Mapping[str, str], name: str) -> ComboBox:
    """A combobox of titles, each with its key as value; `name` is for a screen reader."""
    box = ComboBox(choices=[(title, key) for key, title in titles.items()])
    elide_combo(box.native)
    box.native.setAccessibleName(name)
    return box
