"""The Runs page: watch, stop, resume and preview a run, and show its results."""

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

from napari_msankd.settings import preferences
from napari_msankd.torch_import import preload
from napari_msankd.training.monitor.live_preview import LivePreview
from napari_msankd.training.monitor.results_table import ResultsTable
from napari_msankd.training.monitor.run_watcher import RunWatcher
from napari_msankd.training.monitor.stage_bar import StageBar
from napari_msankd.training.monitor.state import MonitorState
from napari_msankd.training.monitor.training_curves import TrainingCurves
from napari_msankd.widgets.layer_combo import LayerCombo
from napari_msankd.widgets.layout import VerticalScrollArea
from napari_msankd.widgets.model_dialog import library_changes
from napari_msankd.widgets.run_combo import RunCombo
from napari_msankd.widgets.wrapping_label import WrappingLabel
from napari_msankd.workers import Failure, WorkerGroup, as_failure
from src_training.errors import InputError

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from src_training.comparison.plan import PlannedRun
    from src_training.runs.state import RunState


class MonitorPage(QWidget):
    """One run at a time, from the runs folder or any other.

    Parameters
    ----------
    viewer
        The viewer whose theme sets the colors and whose layers can be previewed.

    Attributes
    ----------
    state
        State of the displayed run.
    job
        Watcher of the displayed run; None before one is chosen.
    segment_with
        Emitted with the model file to segment with.
    """

    segment_with = Signal(object)

    def __init__(self, viewer: "ViewerModel") -> None:
        super().__init__()
        self.state = MonitorState()
        self.job: RunWatcher | None = None
        self._background: list[RunWatcher] = []
        self.workers = WorkerGroup(self, self._on_failed)
        self.choice = RunCombo(preferences().runs)
        self.stage_bar = StageBar(viewer)
        self.status = WrappingLabel()
        self.curves = TrainingCurves(viewer)
        self.results = ResultsTable()
        self.preview = LivePreview(viewer, self)
        self.previewed = LayerCombo(viewer, Image, none="no image")
        self._build()
        self._connect()
        self._draw()

    @property
    def running(self) -> list[RunWatcher]:
        """Active runs: the displayed one, and all that this window started."""
        jobs = self._background if self.job is None else [self.job, *self._background]
        return [job for job in jobs if job.running and not job.stopping]

    def watch(self, job: RunWatcher) -> None:
        """Show a run that was just started."""
        self._attach(job)
        self.choice.open(job.folder.path)

    def end(self) -> None:
        """Stop watching; runs continue in their own processes."""
        self.preview.close()
        self.stage_bar.end()
        self.curves.end()
        self.choice.end()
        self._detach()
        for job in self._background:
            job.close()
        self.workers.cancel_all()

    def stop(self) -> None:
        """Stop the run, as the button does."""
        if self.job is not None:
            self.job.stop()
            self.state.stop()

    def resume(self) -> None:
        """Resume the run, as the button does."""
        if self.job is None:
            return
        try:
            self.job.resume(preferences().device)
        except InputError as error:
            self._on_failed(as_failure(error))
            return
        self.state.resume()
        self._on_preview_chosen()
        self.pages.setCurrentWidget(self.curves)

    def train_control(self, run: Path) -> None:
        """Train the control at equal time of a finished run, and watch it."""
        self.state.message = "Preparing the control…"
        self.workers.start("control", _prepare_control(run), self._on_control)

    def _on_control(self, planned: "PlannedRun") -> None:
        try:
            job = RunWatcher.start(
                planned.recipe, planned.directory.path, preferences().device, parent=self
            )
        except (InputError, OSError) as error:
            self._on_failed(as_failure(error))
            return
        self.watch(job)

    def _build(self) -> None:
        self.status.setToolTip("Device, memory and warnings of the run; how it ended")
        self.stop_button = QPushButton("Sto&p")
        self.stop_button.setToolTip("Stop the run within two seconds; it can be resumed")
        self.resume_button = QPushButton("&Resume")
        self.resume_button.setToolTip("Continue from the last checkpoint; the result is the same")
        self.previewed.setToolTip(
            "Image whose current slice is segmented at each validation, into a Labels layer"
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
        self.pages.addTab(self.results, "R&esult")
        inside = QWidget()
        layout = QVBoxLayout(inside)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.addLayout(top)
        layout.addWidget(self.stage_bar)
        layout.addWidget(self.status)
        layout.addLayout(buttons)
        layout.addWidget(self.pages, 1)
        outside = QVBoxLayout(self)
        outside.setContentsMargins(0, 0, 0, 0)
        # Long notes scroll, where they would make napari's window higher.
        outside.addWidget(VerticalScrollArea(inside))

    def _connect(self) -> None:
        self.state.events.connect(self._draw)
        self.state.events.updates.connect(self._draw_history)
        self.choice.changed.connect(self._on_chosen)
        self.stop_button.clicked.connect(self.stop)
        self.resume_button.clicked.connect(self.resume)
        self.previewed.changed.connect(self._on_preview_chosen)
        self.preview.failed.connect(self._on_failed)
        self.results.segment_with.connect(self.segment_with)
        self.results.open_folder.connect(_show_folder)
        self.results.train_control.connect(self.train_control)
        self.results.export_onnx.connect(self._export_onnx)
        self.results.export_bioimageio.connect(self._export_bioimageio)

    def _draw(self, _event: object = None) -> None:
        """Show the status text, and enable the controls."""
        state = self.state
        self.status.setText(state.status)
        self.stop_button.setEnabled(state.can_stop)
        self.resume_button.setEnabled(state.can_resume)
        self.previewed.setEnabled(state.can_preview)

    def _draw_history(self, _updates: int = 0) -> None:
        """Show stages and curves; a run that ended has no remaining time."""
        state = self.state
        estimate = None if state.phase == "ended" else state.estimate
        self.stage_bar.draw(state.history, estimate)
        self.curves.draw(state.history)

    def _on_chosen(self, path: Path | None) -> None:
        if path is not None and path != self.state.run:
            background = (job for job in self._background if job.folder.path == path)
            self._attach(next(background, None) or RunWatcher(path, self))

    def _attach(self, job: RunWatcher) -> None:
        self._detach()
        self.job = job
        self._background = [other for other in self._background if other is not job]
        job.advanced.connect(self.state.advance)
        job.ended.connect(self._on_ended)
        job.previewed.connect(self.preview.show)
        self.results.clear()
        self.curves.draw(None)
        self.state.open(job.folder.path, job.history)
        self.pages.setCurrentWidget(self.curves)
        self._on_preview_chosen()
        self.state.advance()
        if job.state is not None:
            self._on_ended(job.state)

    def _detach(self) -> None:
        """Stop showing the run; one that this window started is still watched in the background."""
        job, self.job = self.job, None
        if job is None:
            return
        for signal in (job.advanced, job.ended, job.previewed):
            signal.disconnect()
        if job.running and job.started_here:
            self._background.append(job)
        else:
            job.close()
            job.deleteLater()
        self.state.close()

    def _on_ended(self, outcome: "RunState") -> None:
        self.state.finish(outcome)
        self._draw_history()
        if outcome.state == "finished":
            self.results.open(outcome.path, self.state.verdict, self.state.history.notes)
            self.pages.setCurrentWidget(self.results)
            library_changes.changed.emit()
        self.choice.refresh()

    def _on_preview_chosen(self) -> None:
        self.preview.end()
        # A run that has ended makes no previews; do not write to its folder.
        if self.previewed.layer is not None and self.job is not None and self.job.running:
            self.preview.watch(self.previewed.layer, self.job.folder.path)

    def _on_failed(self, failure: Failure) -> None:
        self.state.message = f"✕ {failure.sentence}"

    def _on_exported(self, sentence: str) -> None:
        self.state.message = sentence

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
        """Export a model in a worker, and show the result as a message."""
        self.state.message = f"Exporting {model.name}…"
        self.workers.start("export", _export_model(model, onnx, bioimageio), self._on_exported)


def _prepare_control(run: Path) -> "Iterator[PlannedRun]":
    """Plan the control of a finished run, and copy the stages that it reuses."""
    preload()
    from src_training.comparison.controls import equal_time_run
    from src_training.runs.directory import RunDirectory

    planned = equal_time_run(RunDirectory(run))
    planned.copy_stages(RunDirectory(run))
    yield planned


def _export_model(model: Path, onnx: Path | None, bioimageio: Path | None) -> Iterator[str]:
    preload()
    from src_training.export import export_bioimageio, export_onnx
    from src_training.inference.model_file import load_model

    loaded = load_model(model)
    if onnx is not None:
        check = export_onnx(loaded, onnx)
        yield (
            f"✓ Exported to {onnx}. Its probabilities differ from PyTorch's by at most "
            f"{check.largest_difference:.1e}."
        )
    if bioimageio is not None:
        export_bioimageio(loaded, bioimageio)
        yield f"✓ Exported to {bioimageio}; it passed bioimage.io's validation."


def _show_folder(path: Path) -> None:
    QDesktopServices.openUrl(QUrl.fromLocalFile(str(path)))
