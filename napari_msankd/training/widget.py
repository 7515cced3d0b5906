"""Train & distil: a student of one's own, from opened layers or a folder."""

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QObject
from qtpy.QtWidgets import (
    QCheckBox,
    QMessageBox,
    QTabWidget,
    QVBoxLayout,
)

from napari_msankd.settings import preferences, remember_on_close
from napari_msankd.training.monitor.run_watcher import RunWatcher
from napari_msankd.training.monitor_page import MonitorPage
from napari_msankd.training.setup_page import SetupPage
from napari_msankd.widgets.plugin_widget import PluginWidget, open_widget

if TYPE_CHECKING:
    import napari

_QUESTION = (
    "A run is going on: {name}.\n\nIt can go on by itself; Train & distil finds it again when "
    "napari is opened. Or it is stopped, and can be resumed."
)


class TrainWidget(PluginWidget):
    """The Train & distil widget: Prepare a run, watch Runs.

    Parameters
    ----------
    viewer
        The viewer it is docked in.
    """

    def __init__(self, viewer: "napari.viewer.Viewer") -> None:
        super().__init__(viewer)
        self.prepare = SetupPage(viewer)
        self.runs = MonitorPage(viewer)
        self.pages = QTabWidget()
        self.pages.addTab(self.prepare, "&Prepare")
        self.pages.addTab(self.runs, "R&uns")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.addWidget(self.pages)
        self.setMinimumWidth(360)
        self.prepare.started.connect(self._on_started)
        self.runs.choice.refreshed.connect(self._mark_runs)
        self.runs.segment_with.connect(self.segment_with)

    def segment_with(self, model: Path) -> None:
        """Open the Segment widget with a model of a run."""
        open_widget(self.viewer, "Segment").model.open(model)

    def on_end(self) -> None:
        """Leave what runs to itself."""
        self.prepare.end()
        self.runs.end()

    def event(self, event: QEvent) -> bool:
        """Follow the window that the widget is in."""
        if event.type() == QEvent.Type.Show:
            self.window().installEventFilter(self)
        return super().event(event)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Settle what becomes of a run that is going on, before napari closes."""
        if watched is self.window() and event.type() == QEvent.Type.Close:
            job = self.runs.job
            if job is not None and job.running and not job.stopping and self._may_stop(job):
                job.stop(wait=True)
        return super().eventFilter(watched, event)

    def _mark_runs(self) -> None:
        """Let the tab tell of a run that is going on, also one from before."""
        going = [s.path.name for s in self.runs.choice.states.values() if s.state == "running"]
        tab = self.pages.indexOf(self.runs)
        self.pages.setTabText(tab, "R&uns ●" if going else "R&uns")
        self.pages.setTabToolTip(tab, f"Going on: {', '.join(going)}" if going else "")

    def _on_started(self, job: RunWatcher) -> None:
        job.setParent(self.runs)
        self.runs.watch(job)
        self.pages.setCurrentWidget(self.runs)

    def _may_stop(self, job: RunWatcher) -> bool:
        """Whether a run is to be stopped: as remembered, or as the person says now."""
        on_close = preferences().on_close
        if on_close != "ask":
            return on_close == "stop"
        box = QMessageBox(self)
        box.setWindowTitle("Train & distil")
        box.setText(_QUESTION.format(name=job.folder.path.name))
        leave = box.addButton("&Leave it running", QMessageBox.ButtonRole.AcceptRole)
        stop = box.addButton("&Stop it", QMessageBox.ButtonRole.DestructiveRole)
        box.setDefaultButton(leave)
        always = QCheckBox("&Remember this")
        box.setCheckBox(always)
        box.exec()
        stops = box.clickedButton() is stop
        if always.isChecked():
            remember_on_close("stop" if stops else "leave")
        return stops
