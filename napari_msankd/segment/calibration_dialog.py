"""A model tuned to the scanner at hand, by a few labelled images of it."""

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
from napari_msankd.torch_import import gc_paused, preload
from napari_msankd.widgets.layout import make_primary
from napari_msankd.widgets.model_combo import display_name
from napari_msankd.widgets.wrapping_label import WrappingLabel
from napari_msankd.workers import Failure, WorkerGroup

if TYPE_CHECKING:
    from napari.components import ViewerModel

_WHAT = (
    "Two labelled images of the scanner are enough. Threshold, calibration and share of an "
    "image's own statistics are chosen on them: nothing is trained, {model} stays as it is, and "
    "the tuned model is a file of its own."
)


class CalibrationDialog(QDialog):
    """Choose labelled images, and have a model tuned to them.

    Parameters
    ----------
    viewer
        Whose layers are to be had.
    model
        File of the model that is tuned.
    angle
        Degrees that the fundus camera spans, to begin with; None if not known.
    device
        Where the network runs.
    parent
        With whom it goes.

    Attributes
    ----------
    tuned
        Emitted with the `Path` of the new model.
    """

    tuned = Signal(object)

    def __init__(
        self,
        viewer: "ViewerModel",
        model: Path,
        angle: float | None,
        device: str,
        parent: QWidget,
    ) -> None:
        super().__init__(parent)
        self._model, self._device = model, device
        self.workers = WorkerGroup(self, self._fail)
        self.setWindowTitle(f"Tune {display_name(model)} to a scanner")
        self.resize(420, 360)
        self.images = DatasetSelector(viewer)
        self.images.camera.setValue(angle or 0)
        self.bar = QProgressBar()
        self.bar.setRange(0, 0)
        self.bar.setMaximumHeight(8)
        self.bar.hide()
        self.status = WrappingLabel()
        self.status.setToolTip("What happens, or what went wrong")
        self.tune = QPushButton("&Tune and save as…")
        self.tune.setToolTip("Choose a file, and tune the model into it; about half a minute")
        make_primary(self.tune, viewer)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        buttons.addButton(self.tune, QDialogButtonBox.ButtonRole.ActionRole)
        layout = QVBoxLayout(self)
        what = WrappingLabel(_WHAT.format(model=display_name(model)))
        for part in (what, self.images, self.bar, self.status, buttons):
            layout.addWidget(part)
        self.images.changed.connect(self._enable)
        self.tune.clicked.connect(self._on_tune)
        buttons.rejected.connect(self.reject)
        self.finished.connect(self.end)
        self._enable()

    def begin(self, file: Path) -> None:
        """Tune the model to what is chosen, into `file`."""
        chosen = self.images.value()
        assert chosen is not None
        self.bar.show()

        def show(said: str | Path) -> None:
            if isinstance(said, Path):
                self._rest(self.status.text())
                self.tuned.emit(said)
            else:
                self.status.setText(said)

        self.workers.start("tune", _tuned(self._model, chosen, file, self._device), show)
        self._enable()

    def end(self) -> None:
        """Stop whatever is under way; no file is written then."""
        self.workers.cancel_all()
        self.images.end()

    def _on_tune(self) -> None:
        start = f"{self._model.stem}-tuned.safetensors"
        name, _ = QFileDialog.getSaveFileName(
            self, "Save the tuned model", start, "Models (*.safetensors)"
        )
        if name:
            self.begin(Path(name).with_suffix(".safetensors"))

    def _enable(self) -> None:
        self.tune.setEnabled(self.images.value() is not None and "tune" not in self.workers)
        self.images.setEnabled("tune" not in self.workers)

    def _rest(self, words: str) -> None:
        self.workers.cancel("tune")
        self.bar.hide()
        self.status.setText(words)
        self._enable()

    def _fail(self, failure: Failure) -> None:
        self._rest(f"✕ {failure.sentence}")


def _tuned(model: Path, chosen: Dataset, file: Path, device: str) -> Iterator[str | Path]:
    """Words, then the file once it is there. For a worker."""
    yield "Loading the model…"
    preload()
    with gc_paused():
        from src_training.evaluation.calibration import adapt_to_domain
        from src_training.inference.model_file import load_model
        from src_training.inference.predictor import Predictor

    predictor = Predictor(load_model(model), device)
    yield from adapt_to_domain(predictor, chosen.domain(predictor.model.card.classes), file)
    yield file
