"""The Runs page: a run watched, stopped, resumed, previewed, and what it came to."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from napari.layers import Image
from qtpy.QtCore import QUrl, Signal
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import (
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QPushButton,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from napari_msankd.formatting import size
from napari_msankd.settings import preferences
from napari_msankd.torch_import import preload
from napari_msankd.training.monitor.live_preview import LivePreview
from napari_msankd.training.monitor.results_table import ResultsTable
from napari_msankd.training.monitor.run_combo import RunCombo
from napari_msankd.training.monitor.run_watcher import RunWatcher
from napari_msankd.training.monitor.stage_bar import StageBar
from napari_msankd.training.monitor.training_curves import TrainingCurves
from napari_msankd.widgets.layer_combo import LayerCombo
from napari_msankd.widgets.wrapping_label import WrappingLabel
from napari_msankd.workers import Failure, WorkerGroup, as_failure
from src_training.errors import InputError

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from src_training.runs.history import RunHistory
    from src_training.runs.state import RunState

_ENDED = {
    "finished": "✓ Finished.",
    "stopped": "Stopped: {words}",
    "died": "✕ Died: {words}",
    "unreadable": "✕ {words}",
}


class MonitorPage(QWidget):
    """One run at a time, of those in the runs folder or opened from elsewhere.

    Parameters
    ----------
    viewer
        Whose theme is followed, and whose layers are previewed.

    Attributes
    ----------
    job
        The run that is watched; None before one is chosen.
    segment_with
        Emitted with the model file to segment with.
    """

    segment_with = Signal(object)

    def __init__(self, viewer: "ViewerModel") -> None:
        super().__init__()
        self.job: RunWatcher | None = None
        self.workers = WorkerGroup(self, self._fail)
        self._estimate: dict[str, float] | None = None
        self.choice = RunCombo(preferences().runs)
        self.timeline = StageBar(viewer)
        self.status = WrappingLabel()
        self.curves = TrainingCurves(viewer)
        self.outcome = ResultsTable()
        self.preview = LivePreview(viewer, self)
        self.previewed = LayerCombo(viewer, Image, none="none")
        self._build()
        self._connect()
        self._enable()

    def watch(self, job: RunWatcher) -> None:
        """Show a run that was just begun."""
        self._attach(job)
        self.choice.open(job.folder.path)

    def end(self) -> None:
        """Watch no longer; the run goes on."""
        self.preview.end()
        self.choice.end()
        self._let_go()
        self.workers.cancel_all()

    def stop(self) -> None:
        """Stop the run; what Stop does."""
        if self.job is not None:
            self.job.stop()
            self.status.setText("Stopping…")
            self._enable()

    def resume(self) -> None:
        """Go on with the run; what Resume does."""
        if self.job is None:
            return
        try:
            self.job.resume(preferences().device)
        except InputError as error:
            self._fail(as_failure(error))
            return
        self._on_preview_chosen()
        self.status.setText("Going on…")
        self.pages.setCurrentWidget(self.curves)
        self._enable()

    def _build(self) -> None:
        self.status.setToolTip("Where the run is, what it uses, and what should be known of it")
        self.stop_button = QPushButton("Sto&p")
        self.stop_button.setToolTip("End the run within two seconds; it can be resumed")
        self.resume_button = QPushButton("&Resume")
        self.resume_button.setToolTip("Go on from the last checkpoint, to the same final weights")
        self.previewed.setToolTip(
            "Image whose slice in sight the run segments at each validation, into a Labels layer"
        )
        top = QFormLayout()
        top.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        top.addRow("R&un", self.choice)
        top.addRow("Pre&view", self.previewed)
        buttons = QHBoxLayout()
        buttons.addWidget(self.stop_button)
        buttons.addWidget(self.resume_button)
        self.pages = QTabWidget()
        self.pages.addTab(self.curves, "&Curves")
        self.pages.addTab(self.outcome, "R&esult")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.addLayout(top)
        layout.addWidget(self.timeline)
        layout.addWidget(self.status)
        layout.addLayout(buttons)
        layout.addWidget(self.pages, 1)

    def _connect(self) -> None:
        self.choice.changed.connect(self._on_chosen)
        self.stop_button.clicked.connect(self.stop)
        self.resume_button.clicked.connect(self.resume)
        self.previewed.changed.connect(self._on_preview_chosen)
        self.preview.failed.connect(self._fail)
        self.outcome.segment_with.connect(self.segment_with)
        self.outcome.open_folder.connect(_show_folder)
        self.outcome.export_onnx.connect(self._export_onnx)
        self.outcome.export_bioimageio.connect(self._export_bioimageio)

    def _on_chosen(self, path: Path | None) -> None:
        if path is None or (self.job is not None and self.job.folder.path == path):
            return
        self._attach(RunWatcher(path, self))

    def _attach(self, job: RunWatcher) -> None:
        self._let_go()
        self.job = job
        self._estimate = _estimated(job)
        job.advanced.connect(self._on_advanced)
        job.ended.connect(self._on_ended)
        job.previewed.connect(self.preview.show)
        self.outcome.clear()
        self.curves.draw(None)
        self.timeline.draw(job.history, self._estimate)
        self.pages.setCurrentWidget(self.curves)
        self.status.setText("Looking at the run…" if job.folder.events.exists() else "Starting…")
        self._on_preview_chosen()
        self._enable()

    def _let_go(self) -> None:
        if self.job is not None:
            self.job.close()
            self.job.deleteLater()
            self.job = None

    def _on_advanced(self, history: "RunHistory") -> None:
        self.timeline.draw(history, self._estimate)
        self.curves.draw(history)
        if self.job is not None and self.job.running and not self.job.stopping:
            self.status.setText(_going(history))
        self._enable()

    def _on_ended(self, state: "RunState") -> None:
        assert self.job is not None
        words = state.last_words or "it said nothing"
        lines = [_ENDED.get(state.state, state.state).format(words=words)]
        self.status.setText("\n".join([*lines, *(f"⚠ {note}" for note in self.job.history.notes)]))
        self.timeline.draw(self.job.history)
        if state.state == "finished":
            self.outcome.open(state.path)
            self.pages.setCurrentWidget(self.outcome)
        self.choice.refresh()
        self._enable()

    def _on_preview_chosen(self) -> None:
        self.preview.end()
        # An ended run answers no more, and its folder is left as it is.
        if self.previewed.layer is not None and self.job is not None and self.job.running:
            self.preview.watch(self.previewed.layer, self.job.folder.path)

    def _enable(self) -> None:
        job = self.job
        self.previewed.setEnabled(job is None or job.running)
        self.stop_button.setEnabled(job is not None and job.running and not job.stopping)
        ended = job.state.state if job is not None and job.state is not None else ""
        self.resume_button.setEnabled(ended in ("stopped", "died"))

    def _fail(self, failure: Failure) -> None:
        self.status.setText(f"✕ {failure.sentence}")

    def _export_onnx(self, model: Path) -> None:
        name, _ = QFileDialog.getSaveFileName(
            self, "Export to ONNX", str(model.with_suffix(".onnx")), "ONNX (*.onnx)"
        )
        if name:
            self.export(model, onnx=Path(name))

    def _export_bioimageio(self, model: Path) -> None:
        name = QFileDialog.getExistingDirectory(self, "Export to a bioimage.io folder")
        if name:
            self.export(model, bioimageio=Path(name) / f"{model.parent.name}-{model.stem}")

    def export(
        self, model: Path, *, onnx: Path | None = None, bioimageio: Path | None = None
    ) -> None:
        """Export a model in a worker, and say how it went."""
        self.status.setText(f"Exporting {model.name}…")
        self.workers.start("export", _exported(model, onnx, bioimageio), self.status.setText)


def _going(history: "RunHistory") -> str:
    """Where a run is at work, what it uses, what should be known."""
    if not history.device:
        return "Reading the images…"
    several = f", {history.processes} processes" if history.processes > 1 else ""
    words = [f"Running on {history.device}{several} in {history.precision}"]
    if history.memory is not None:
        host, device = history.memory
        words.append(f"{size(host)} of memory")
        words += [f"{size(device)} on the device"] if device else []
    return "\n".join([" · ".join(words), *(f"⚠ {note}" for note in history.notes)])


def _estimated(job: RunWatcher) -> dict[str, float] | None:
    """Seconds that each stage and the report were thought to take; None if nobody asked."""
    try:
        found = json.loads(job.folder.estimate.read_text(encoding="utf-8"))
        parts = {**found["stage_seconds"], "report": found["scoring"]}
        return {name: float(seconds) for name, seconds in parts.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _exported(model: Path, onnx: Path | None, bioimageio: Path | None) -> Iterator[str]:
    preload()
    from src_training.export import export_bioimageio, export_onnx
    from src_training.inference.model_file import load_model

    loaded = load_model(model)
    if onnx is not None:
        check = export_onnx(loaded, onnx)
        yield (
            f"✓ {onnx} is written; it differs from the model by at most "
            f"{check.largest_difference:.1e} in probability."
        )
    if bioimageio is not None:
        export_bioimageio(loaded, bioimageio)
        yield f"✓ {bioimageio} is written, and the bioimage.io validator accepts it."


def _show_folder(path: Path) -> None:
    QDesktopServices.openUrl(QUrl.fromLocalFile(str(path)))
