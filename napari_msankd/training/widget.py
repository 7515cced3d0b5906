"""The Train & distil widget: trains a student on layers or folders."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QDockWidget,
    QMainWindow,
    QMessageBox,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from napari_msankd.settings import preferences, remember_on_close
from napari_msankd.training.monitor.run_watcher import RunWatcher
from napari_msankd.training.monitor_page import MonitorPage
from napari_msankd.training.setup_page import SetupPage
from napari_msankd.widgets.plugin_widget import PluginWidget, open_widget
from napari_msankd.workers import timer

if TYPE_CHECKING:
    import napari

Answer = Literal["leave", "stop", "cancel"]

_QUESTION = (
    "Training {names} is still running.\n\nKeep it running in the background, or stop it? "
    "You can watch it again, or resume it, in Train & distil."
)
_QUESTION_SEVERAL = (
    "Training {names} are still running.\n\nKeep them running in the background, or stop them? "
    "You can watch them again, or resume them, in Train & distil."
)


class TrainWidget(PluginWidget):
    """The Train & distil widget, with the pages Prepare and Runs.

    Parameters
    ----------
    viewer
        The viewer of the dock.
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
        self._filter_timer = timer(self, self._filter_window_events)
        self.prepare.started.connect(self._on_started)
        self.runs.choice.refreshed.connect(self._mark_runs)
        self.runs.segment_with.connect(self.segment_with)

    def segment_with(self, model: Path) -> None:
        """Open the Segment widget with a model of a run."""
        open_widget(self.viewer, "Segment").model.open(model)

    def on_end(self) -> None:
        """End the pages; runs continue in their own processes."""
        self.prepare.end()
        self.runs.end()

    def event(self, event: QEvent) -> bool:
        """Install the event filter on napari's window after a change of the dock."""
        if event.type() == QEvent.Type.ParentChange:
            # A new dock is not in the window yet.
            self._filter_timer.start()
        return super().event(event)

    @property
    def _main_window(self) -> QMainWindow | None:
        """The dock's window, also if it floats; not stored, because a reference would leak it."""
        dock = self.parent()
        window = dock.parent() if isinstance(dock, QDockWidget) else None
        return window if isinstance(window, QMainWindow) else None

    def _filter_window_events(self) -> None:
        if (window := self._main_window) is not None:
            # Qt ignores repeated installations of a filter.
            window.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Ask what to do with active runs before napari closes."""
        if event.type() != QEvent.Type.Close or self.ended:
            return False
        window, jobs = self._main_window, self.runs.running
        if window is None or watched != window or not jobs:
            return False
        answer = self._ask(jobs, may_cancel=not _is_torn_down(window))
        if answer == "cancel":
            event.ignore()
        elif answer == "stop":
            for job in jobs:
                job.stop(wait=True)
        return answer == "cancel"

    def _mark_runs(self) -> None:
        """Mark the tab while any run is active, also one of an earlier session."""
        states = self.runs.choice.states.values()
        running = [state.path.name for state in states if state.state == "running"]
        # Active runs would distort the cost estimate, so the Prepare page must know them.
        self.prepare.state.training = tuple(running)
        tab = self.pages.indexOf(self.runs)
        self.pages.setTabText(tab, "R&uns ●" if running else "R&uns")
        self.pages.setTabToolTip(tab, f"Running: {', '.join(running)}" if running else "")

    def _on_started(self, job: RunWatcher) -> None:
        job.setParent(self.runs)
        self.runs.watch(job)
        self.pages.setCurrentWidget(self.runs)

    def _ask(self, jobs: list[RunWatcher], may_cancel: bool) -> Answer:
        """What to do with active runs, by the preferences or a question to the user."""
        on_close = preferences().on_close
        if on_close != "ask":
            return on_close
        box = QMessageBox(self._main_window)
        box.setWindowTitle("Train & distil")
        names = " and ".join(f"“{job.folder.title}”" for job in jobs)
        box.setTextFormat(Qt.TextFormat.PlainText)
        box.setText((_QUESTION if len(jobs) == 1 else _QUESTION_SEVERAL).format(names=names))
        keep = box.addButton("&Keep running", QMessageBox.ButtonRole.AcceptRole)
        stop = box.addButton("&Stop", QMessageBox.ButtonRole.DestructiveRole)
        if may_cancel:
            box.setEscapeButton(box.addButton(QMessageBox.StandardButton.Cancel))
        else:
            box.setEscapeButton(keep)
        box.setDefaultButton(keep)
        always = QCheckBox("&Remember my choice")
        box.setCheckBox(always)
        box.exec()
        answer: Answer = "cancel"
        if box.clickedButton() == stop:
            answer = "stop"
        elif box.clickedButton() == keep:
            answer = "leave"
        remember = always.isChecked()
        box.deleteLater()
        if remember and answer != "cancel":
            remember_on_close(answer)
        return answer


def _is_torn_down(window: QMainWindow) -> bool:
    """Whether the viewer in the window is already closed, as by ``viewer.close()`` in a script.

    Then the user can no longer cancel.
    """
    explicit = Qt.WidgetAttribute.WA_WState_ExplicitShowHide
    parts = window.centralWidget().findChildren(
        QWidget, options=Qt.FindChildOption.FindDirectChildrenOnly
    )
    return any(part.isHidden() and part.testAttribute(explicit) for part in parts)
