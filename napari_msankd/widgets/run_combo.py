"""A combobox of runs: those in the runs folder, newest first, and opened ones."""

from pathlib import Path

from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QFileDialog, QWidget

from napari_msankd.formatting import literal
from napari_msankd.settings import library
from napari_msankd.widgets.layout import ElidingComboBox
from napari_msankd.widgets.run_index import RunIndex
from napari_msankd.workers import Failure, WorkerGroup
from src_training.config.stages import STAGES
from src_training.runs.directory import RunDirectory
from src_training.runs.state import RunState

REFRESH_MS = 3000

_OPEN = "Open run folder…"
_NONE = "No runs yet"


class RunCombo(ElidingComboBox):
    """Runs with their states, updated while the widget is visible or a run is active.

    The initial choice is the active run, else the newest.

    Parameters
    ----------
    root
        Folder of the runs; may not exist yet.

    Attributes
    ----------
    changed
        Emitted with the directory of the chosen run.
    refreshed
        Emitted after each update of the list.
    states
        State of each listed run at the last update.
    """

    changed = Signal(object)
    refreshed = Signal()

    def __init__(self, root: Path, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setToolTip("Run to watch, also one started by another window or a terminal")
        self.states: dict[Path, RunState] = {}
        self.workers = WorkerGroup(self, self._on_failed)
        self._index = RunIndex(root.absolute())
        for run in library().opened_runs():
            self._index.add(run)
        self._path: Path | None = None
        self._show([])
        self.activated.connect(self._on_activated)
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._on_timer)
        self._timer.start(REFRESH_MS)
        self.refresh()

    @property
    def path(self) -> Path | None:
        """Directory of the chosen run; None if there is none."""
        return self._path

    def open(self, path: Path) -> None:
        """List a run, in any folder, and choose it."""
        path = path.absolute()
        self._index.add(path)
        if path not in self.states:
            self._show([RunState(path, path.name, "", "", 0, 0), *self.states.values()])
        self._choose(path)
        self.refresh()

    def refresh(self) -> None:
        """Update the list in a worker, unless an update is in progress."""
        if "read" in self.workers:
            return
        self.workers.start("read", self._index.read(), self._on_read)

    def end(self) -> None:
        """Stop the updates."""
        self._timer.stop()
        self.workers.cancel_all()

    def _on_timer(self) -> None:
        active = any(state.state == "running" for state in self.states.values())
        if self.isVisible() or active:
            self.refresh()

    def _on_failed(self, failure: Failure) -> None:
        self.setToolTip(literal(f"⚠ {failure.sentence}"))

    def _on_read(self, states: list[RunState]) -> None:
        # Do not change the entries while the popup is open.
        if not self.view().isVisible():
            paths = {state.path for state in states}
            unread = [state for state in self.states.values() if state.path not in paths]
            self._show([*(state for state in unread if state.path == self._path), *states])
            self._choose(self._path or _first(states))
        self.refreshed.emit()

    def _show(self, states: list[RunState]) -> None:
        """Fill the list, if the entries have changed."""
        self.states = {state.path: state for state in states}
        entries = [(run_text(state), str(state.path)) for state in states] or [(_NONE, None)]
        entries.append((_OPEN, None))
        if entries == [(self.itemText(i), self.itemData(i)) for i in range(self.count())]:
            return
        self.clear()
        for text, path in entries:
            self.addItem(text, path)
        self._select()

    def _choose(self, path: Path | None) -> None:
        changed, self._path = path != self._path, path
        self._select()
        if changed:
            self.changed.emit(path)

    def _select(self) -> None:
        self.setCurrentIndex(max(0, self.findData(str(self._path))))

    def _on_activated(self, position: int) -> None:
        if self.itemText(position) != _OPEN:
            data = self.itemData(position)
            self._choose(Path(data) if data else None)
            return
        self._select()
        name = QFileDialog.getExistingDirectory(self, "Open run folder", str(self._index.root))
        if name:
            library().remember(Path(name))
            self.open(Path(name))


def run_text(state: RunState) -> str:
    """One line about a run: ``"retina · running, Distillation 48 %"``."""
    name = RunDirectory(state.path).title
    stage = STAGES[state.stage].title if state.stage in STAGES else state.stage
    share = f" {100 * state.step // state.steps} %" if state.steps else ""
    states = {
        "running": f"running, {stage or 'preparing'}{share}",
        "finished": "finished",
        "stopped": f"stopped in {stage}{share}" if stage else "stopped",
        "died": f"ended unexpectedly in {stage}{share}" if stage else "ended unexpectedly",
        "unreadable": "cannot be read",
    }
    return f"{name} · {states[state.state]}" if state.state else name


def _first(states: list[RunState]) -> Path | None:
    """An active run, else the newest."""
    running = (state.path for state in states if state.state == "running")
    return next(running, states[0].path if states else None)
