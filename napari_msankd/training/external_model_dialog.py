"""A dialog for inputs and outputs of a teacher in another format (ONNX, bioimage.io)."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError
from qtpy.QtWidgets import QDialog, QDialogButtonBox, QVBoxLayout, QWidget

from napari_msankd.formatting import literal
from napari_msankd.widgets.layout import VerticalScrollArea
from napari_msankd.widgets.model_form import ModelForm
from napari_msankd.widgets.wrapping_label import WrappingLabel
from src_training.config.yaml_io import first_fault
from src_training.errors import InputError
from src_training.inference.external.model import ExternalModel, describe_model

FILTER = "Models from elsewhere (*.onnx rdf.yaml bioimageio.yaml)"

_TEXT = (
    "The model gets patches as the student does: prepared images, with values from 0 to 1. Say "
    "what it was trained on, and what it returns. It is tried on one image before the run starts."
)
_FIELDS = ("output", "classes", "preprocessing")


class ExternalModelDialog(QDialog):
    """A form for a model in another format, prefilled from its own description.

    Parameters
    ----------
    file
        An ONNX file, or the description of a bioimage.io folder.
    fields
        Former values of the form.
    parent
        Qt parent.

    Attributes
    ----------
    value
        Fields of `ExternalModel`, once the dialog is accepted.
    """

    def __init__(
        self, file: Path, fields: dict[str, Any] | None = None, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle(f"Teacher from {file.name}")
        self.resize(460, 560)
        self.value: dict[str, Any] = {}
        self.form = ModelForm(ExternalModel, _FIELDS)
        self.message = WrappingLabel()
        self.buttons = QDialogButtonBox(
            QDialogButtonBox.StandardButton.Ok | QDialogButtonBox.StandardButton.Cancel
        )
        self.buttons.accepted.connect(self._accept)
        self.buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        layout.addWidget(WrappingLabel(_TEXT))
        layout.addWidget(VerticalScrollArea(self.form.native), 1)
        layout.addWidget(self.message)
        layout.addWidget(self.buttons)
        self._file = str(file)
        try:
            described = describe_model(file)
        except InputError as error:
            described = {}
            self.message.setText(f"⚠ {literal(str(error))}")
        self._fill(described)
        self._fill(fields or {})

    def _fill(self, fields: dict[str, Any]) -> None:
        self._file = fields.get("file", self._file)
        preprocessing = self.form.value["preprocessing"] | fields.get("preprocessing", {})
        values = {name: fields[name] for name in _FIELDS if name in fields}
        self.form.value = values | {"preprocessing": preprocessing}

    def _accept(self) -> None:
        try:
            model = ExternalModel.model_validate({**self.form.value, "file": self._file})
        except ValidationError as error:
            self.message.setText(f"✕ {literal(first_fault(error, ExternalModel))}")
            return
        self.value = model.model_dump(mode="json")
        self.accept()
