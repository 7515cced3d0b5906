"""A row of the Prepare page for the teacher or the student: a new network, or a model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from magicgui.widgets import ComboBox
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QFileDialog, QPushButton, QVBoxLayout, QWidget

from napari_msankd.formatting import literal
from napari_msankd.training.external_model_dialog import FILTER, ExternalModelDialog
from napari_msankd.training.run_request import NO_TEACHER, NetworkChoice
from napari_msankd.widgets.layout import keep_narrow
from napari_msankd.widgets.model_combo import ModelCombo
from napari_msankd.widgets.wrapping_label import WrappingLabel


class NetworkSelector(QWidget):
    """Choice of a new network, or of a model to start from; for a teacher also of none.

    Parameters
    ----------
    networks
        Name -> title of each new network; the first is the default.
    title
        Accessible name, such as ``Teacher``.
    is_teacher
        Whether a model can be used without training, may be in another format (ONNX,
        bioimage.io), or left out.

    Attributes
    ----------
    changed
        Emitted when the choice changes.
    none, model, network, training
        Controls for no teacher, the model, the new network, and whether the model is trained.
    note, change
        Note on the choice, and the button that edits a model in another format.
    """

    changed = Signal()

    def __init__(self, networks: Mapping[str, str], title: str, is_teacher: bool = False) -> None:
        super().__init__()
        self._is_teacher = is_teacher
        self._external: Mapping[str, Any] | None = None
        self.dialog: ExternalModelDialog | None = None
        self.none = QCheckBox("None: train the student alone")
        self.none.setToolTip(
            "No distillation: the student learns from masks alone, in a fraction of the time"
        )
        self.model = ModelCombo(none="New network", elsewhere=is_teacher)
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
        self.note = WrappingLabel(_FINE_TUNED)
        self.change = QPushButton("Cha&nge…")
        self.change.setToolTip("What the model from elsewhere takes and returns")
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setSpacing(4)
        for part in (
            self.none,
            self.model,
            self.network.native,
            self.training.native,
            self.note,
            self.change,
        ):
            rows.addWidget(part)
        self.none.setVisible(is_teacher)
        self.setFocusProxy(self.none if is_teacher else self.model)
        self.none.toggled.connect(self._on_model)
        self.model.changed.connect(self._on_model)
        self.model.elsewhere_asked.connect(self._ask_for_file)
        self.change.clicked.connect(lambda: self.open_elsewhere(self._elsewhere))
        self.network.changed.connect(self._emit)
        self.training.changed.connect(self._emit)
        self._show_controls()

    def value(self) -> NetworkChoice:
        """The choice."""
        if self.none.isChecked():
            return NO_TEACHER
        model = self.model.path
        if model is not None and self._is_elsewhere:
            return NetworkChoice(str(self.network.value), model, False, self._external)
        train = model is None or not self._is_teacher or bool(self.training.value)
        return NetworkChoice(str(self.network.value), model, train)

    def open_elsewhere(self, file: Path) -> None:
        """Ask for inputs and outputs of a model in another format, and choose it."""
        fields = dict(self._external) if self._external and file == self._elsewhere else None
        self.dialog = ExternalModelDialog(file, fields, self)
        self.dialog.accepted.connect(self._on_described)
        self.dialog.open()

    @property
    def _elsewhere(self) -> Path:
        """File of the model in another format."""
        return Path(self._external["file"]) if self._external else Path()

    @property
    def _is_elsewhere(self) -> bool:
        return self._external is not None and self.model.path == self._elsewhere

    def _ask_for_file(self) -> None:
        name, _ = QFileDialog.getOpenFileName(self, "Open a model from elsewhere", "", FILTER)
        if name:
            self.open_elsewhere(Path(name))

    def _on_described(self) -> None:
        assert self.dialog is not None
        self._external = self.dialog.value
        same = self.model.path == self._elsewhere
        self.model.show_elsewhere(self._elsewhere)
        if same:
            self._on_model()

    def _on_model(self) -> None:
        self._show_controls()
        self.changed.emit()

    def _emit(self) -> None:
        self.changed.emit()

    def _show_controls(self) -> None:
        used = not self.none.isChecked()
        new = self.model.path is None
        elsewhere = self._is_elsewhere and used
        started = used and not new and not elsewhere
        self.model.setVisible(used)
        self.network.native.setVisible(used and new)
        self.training.native.setVisible(started and self._is_teacher)
        self.note.setText(_elsewhere_text(self._external) if elsewhere else _FINE_TUNED)
        self.note.setVisible(elsewhere or (started and not self._is_teacher))
        self.change.setVisible(elsewhere)


_FINE_TUNED = "Fine-tuned on the sources, for a third of the steps."


def _elsewhere_text(external: Mapping[str, Any] | None) -> str:
    """Note on a chosen model in another format."""
    fields = external or {}
    channels = fields["preprocessing"]["channels"]
    return literal(
        f"{Path(fields['file']).name} teaches as it is, by its {fields['output']}; it takes "
        f"{channels} {'channel' if channels == 1 else 'channels'}."
    )


def choices(titles: Mapping[object, str] | Mapping[str, str], name: str) -> ComboBox:
    """A combobox of titles with the keys as values; `name` is the accessible name."""
    box = ComboBox(choices=[(title, key) for key, title in titles.items()])
    keep_narrow(box.native)
    box.native.setAccessibleName(name)
    return box
