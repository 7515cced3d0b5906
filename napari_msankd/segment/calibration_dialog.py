"""A dialog to calibrate a model for another scanner with a few labelled images."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_msankd.datasets.selection import Dataset
from napari_msankd.datasets.selector import DatasetSelector
from napari_msankd.settings import Preferences
from napari_msankd.torch_import import gc_paused, preload
from napari_msankd.widgets.layout import make_primary
from napari_msankd.widgets.model_combo import display_name
from napari_msankd.widgets.wrapping_label import WrappingLabel
from napari_msankd.workers import Failure, WorkerGroup

if TYPE_CHECKING:
    from napari.components import ViewerModel

STEPS = 5
"""Number of status texts that a calibration yields."""

_TEXT = (
    "Recalibrates threshold, calibration and normalization on two or more labelled images of the "
    "scanner; nothing is trained. {model} is unchanged; the result is a model file of its own."
)


class CalibrationDialog(QDialog):
    """Choose labelled images, and calibrate a model for them.

    Parameters
    ----------
    viewer
        The viewer whose layers can be chosen.
    model
        File of the model to calibrate.
    angle
        Initial angle of the fundus camera, degrees; None if unknown.
    preferences
        Provides the device, and the folder of models, where the result is saved by default.
    parent
        Qt parent.

    Attributes
    ----------
    calibrated
        Emitted with the `Path` of the new model.
    """

    calibrated = Signal(object)

    def __init__(
        self,
        viewer: "ViewerModel",
        model: Path,
        angle: float | None,
        preferences: Preferences,
        parent: QWidget,
    ) -> None:
        super().__init__(parent)
        self._model, self._preferences = model, preferences
        self.workers = WorkerGroup(self, self._fail)
        self.setWindowTitle(f"Calibrate {display_name(model)} for a scanner")
        self.resize(420, 360)
        self.images = DatasetSelector(viewer)
        self.images.camera.setValue(angle or 0)
        self.bar = QProgressBar()
        self.bar.setRange(0, STEPS)
        self.bar.setMaximumHeight(8)
        self.bar.hide()
        self.status = WrappingLabel()
        self.status.setToolTip("The state of the calibration, or an error")
        self.calibrate = QPushButton("&Calibrate and save as…")
        self.calibrate.setToolTip("Choose a file for the calibrated model; about half a minute")
        make_primary(self.calibrate, viewer)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        buttons.addButton(self.calibrate, QDialogButtonBox.ButtonRole.ActionRole)
        layout = QVBoxLayout(self)
        what = WrappingLabel(_TEXT.format(model=display_name(model)))
        for part in (what, self.images, self.bar, self.status, buttons):
            layout.addWidget(part)
        self.images.changed.connect(self._enable)
        self.calibrate.clicked.connect(self._on_calibrate)
        buttons.rejected.connect(self.reject)
        self.finished.connect(self.end)
        self._enable()

    def begin(self, file: Path) -> None:
        """Calibrate the model on the chosen images, and write it to `file`."""
        chosen = self.images.value()
        assert chosen is not None
        self.bar.setValue(0)
        self.bar.show()

        def show(step: str | Path) -> None:
            if isinstance(step, Path):
                self._finish(self.status.text())
                self.calibrated.emit(step)
            else:
                self.bar.setValue(self.bar.value() + 1)
                self.status.setText(step)

        self.workers.start(
            "calibrate", _calibrate(self._model, chosen, file, self._preferences.device), show
        )
        self._enable()

    def end(self) -> None:
        """Cancel the workers; an unfinished calibration writes no file."""
        self.workers.cancel_all()
        self.images.end()

    def _on_calibrate(self) -> None:
        folder = self._preferences.models
        folder.mkdir(parents=True, exist_ok=True)
        start = folder / f"{display_name(self._model)}-calibrated.safetensors"
        name, _ = QFileDialog.getSaveFileName(
            self, "Save the calibrated model", str(start), "Models (*.safetensors)"
        )
        if name:
            self.begin(Path(name).with_suffix(".safetensors"))

    def _enable(self) -> None:
        idle = "calibrate" not in self.workers
        self.calibrate.setEnabled(idle and self.images.value() is not None)
        self.images.setEnabled(idle)

    def _finish(self, text: str) -> None:
        self.workers.cancel("calibrate")
        self.bar.hide()
        self.status.setText(text)
        self._enable()

    def _fail(self, failure: Failure) -> None:
        self._finish(f"✕ {failure.sentence}")


def _calibrate(model: Path, chosen: Dataset, file: Path, device: str) -> Iterator[str | Path]:
    """Calibrate in a worker; yields status texts, and at the end the written file."""
    yield "Loading the model…"
    preload()
    with gc_paused():
        from src_training.evaluation.adaptation import adapt_to_domain
        from src_training.inference.model_file import load_model
        from src_training.inference.predictor import Predictor

    predictor = Predictor(load_model(model), device)
    yield from adapt_to_domain(predictor, chosen.domain(predictor.model.card.classes), file)
    yield file
