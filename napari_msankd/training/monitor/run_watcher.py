"""Start, watch, stop and resume a run in its own process."""

import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from qtpy.QtCore import QObject, QTimer, Signal

from napari_msankd.training.monitor.run_process import (
    STOP_TIMEOUT,
    find_process,
    is_alive,
    kill,
    start_process,
    stop,
)
from napari_msankd.workers import Failure, WorkerGroup
from src_training.errors import InputError
from src_training.runs.directory import RunDirectory
from src_training.runs.events import ON_REQUEST, Event, EventLog, RunStarted, RunStopped
from src_training.runs.history import RunFollower, RunHistory
from src_training.runs.process import Output, to_begin, to_resume
from src_training.runs.state import RunState, run_state

if TYPE_CHECKING:
    from src_training.config.recipe import Recipe

TICK_MS = 250
_BUSY_MS = 5
"""Interval of ticks while there are more events to read."""

_SLICE = 50
_BUDGET = 0.005
"""Time budget of a tick in seconds; one slice of events may exceed it."""

_RESOLVE_SECONDS = 3.0


class RunWatcher(QObject):
    """Watch the directory of a run, independent of who started it.

    All former events are read first. A run that has ended is still watched, because
    another process may resume it. Several watchers can watch one run.

    Parameters
    ----------
    folder
        Directory of the run.
    parent
        Qt parent; the run continues when it is deleted.

    Attributes
    ----------
    advanced
        Emitted with the `RunHistory`, at most once per tick.
    ended
        Emitted with the `RunState` when the run's process has ended, also for a
        run that had ended before.
    previewed
        Emitted with the file of new preview labels.
    history
        History of all events of the run.
    state
        State at the end of the run; None while it is active or not known to have ended.
    started_here
        Whether this window started or resumed it.
    """

    advanced = Signal(object)
    ended = Signal(object)
    previewed = Signal(object)

    def __init__(self, folder: Path, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.folder = RunDirectory(folder.absolute())
        self.history = RunHistory()
        self.state: RunState | None = None
        self.started_here = False
        self.workers = WorkerGroup(self, self._on_unreadable)
        self._follower = RunFollower(self.folder.path)
        self._process: psutil.Process | None = None
        self._startup_output: Output | None = None
        self._started = ""
        self._stopping = False
        self._resolved = float("-inf")
        self._emitted = float("-inf")
        self._preview: object = None
        self._timer = QTimer(self)
        self._timer.timeout.connect(self.tick)
        self._timer.start(_BUSY_MS)

    @classmethod
    def start(
        cls,
        recipe: "Recipe",
        folder: Path,
        device: str = "auto",
        devices: int = 1,
        parent: QObject | None = None,
    ) -> "RunWatcher":
        """Start a new run in its own process, and watch it.

        Parameters
        ----------
        recipe
            Recipe with absolute paths of folders.
        folder
            Directory of the run; created if missing, may contain images.
        device, devices
            See `src_training.runs.run.distil`.
        parent
            See the class.

        Raises
        ------
        InputError
            If the directory already contains a run, or the process cannot be started.
        OSError
            If the directory or the recipe cannot be written.
        """
        run = RunDirectory(folder.absolute())
        if run.recipe.exists():
            raise InputError(f"{folder}: the directory holds a run already; expected another")
        arguments = to_begin(recipe, run)
        job = cls(run.path, parent)
        job._start(arguments, device, devices)
        return job

    @property
    def running(self) -> bool:
        """Whether the run is active, as far as is known."""
        return self.state is None

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called and the run has not ended yet."""
        return self._stopping and self.running

    def resume(self, device: str = "auto", devices: int = 1) -> None:
        """Resume a run that ended, in a new process.

        Raises
        ------
        InputError
            If it is active, or the process cannot be started.
        """
        if self.running:
            raise InputError(f"{self.folder.path}: the run is going on; expected one that ended")
        self._start(to_resume(self.folder), device, devices)

    def stop(self, wait: bool = False) -> None:
        """Stop the run after its current step; kill it after `STOP_TIMEOUT` seconds.

        Parameters
        ----------
        wait
            Block until it has ended; for when napari quits.
        """
        process = self._process if self.state is None else None
        if process is None or self._stopping:
            return
        self._stopping = True
        processes = stop(process, self.folder)
        if wait:
            _, alive = psutil.wait_procs(processes, timeout=STOP_TIMEOUT)
            kill(alive)
        else:
            QTimer.singleShot(round(1000 * STOP_TIMEOUT), partial(kill, processes))

    def close(self) -> None:
        """Stop watching; the run continues."""
        self._timer.stop()
        self.workers.cancel_all()

    def tick(self) -> None:
        """Read new events for a few milliseconds."""
        deadline = time.monotonic() + _BUDGET
        changed, more = False, True
        while more and time.monotonic() < deadline:
            events = self._follower.poll(_SLICE)
            for event in events:
                self._take(event)
            changed, more = changed or bool(events), len(events) == _SLICE
        self._timer.setInterval(_BUSY_MS if more else TICK_MS)
        if changed and (not more or time.monotonic() - self._emitted > TICK_MS / 1000):
            self._emit_progress()
        if not more:
            self._check_process()

    def _start(self, arguments: list[str], device: str, devices: int) -> None:
        options = ["--device", device]
        options += ["--devices", str(devices)] if devices > 1 else []
        self._startup_output = Output(self.folder.output)
        self._process = start_process(self.folder, [*arguments, *options])
        self.state, self._stopping, self.started_here = None, False, True

    def _take(self, event: Event) -> None:
        self.history.take(event)
        # A new event shows that the run is active, or that the known end is outdated.
        self.state = None
        if isinstance(event, RunStarted):
            self._started, self._startup_output = event.time, None
            self._stopping = False

    def _emit_progress(self) -> None:
        self._emitted = time.monotonic()
        if self.history.preview != self._preview:
            self._preview = self.history.preview
            self.previewed.emit(self.folder.path / self.history.preview[2])
        self.advanced.emit(self.history)

    def _check_process(self) -> None:
        """If the process has ended, read the state of the run in a worker."""
        if self.state is not None or "resolve" in self.workers or self._is_alive():
            return
        if time.monotonic() - self._resolved < _RESOLVE_SECONDS:
            return
        self._resolved = time.monotonic()
        steps = _resolve_state(self.folder, self._stopping)
        self.workers.start("resolve", steps, self._on_resolved)

    def _is_alive(self) -> bool:
        if self._process is not None and is_alive(self._process):
            return True
        self._process = find_process(self.history.process, self._started) if self._started else None
        return self._process is not None

    def _on_unreadable(self, failure: Failure) -> None:
        path = self.folder.path
        self._on_resolved(RunState(path, path.name, "unreadable", "", 0, 0, failure.sentence))

    def _on_resolved(self, state: RunState | None) -> None:
        """Set the state from the directory, or from the output of a failed start."""
        if state is None and self._started:
            self._startup_output = None
            self._on_unreadable(Failure(f"{self.folder.path}: the folder of this run is gone"))
            return
        if self._startup_output is not None:
            state = state or RunState(self.folder.path, self.folder.path.name, "", "", 0, 0)
            reason = ON_REQUEST if self._stopping else self._startup_output.last_line()
            state = replace(state, state="stopped", stop_reason=reason)
        if state is None or state.state == "running":
            return
        self._startup_output = None
        self.state = state
        self.ended.emit(state)


def _resolve_state(folder: RunDirectory, stopped: bool) -> Iterator[RunState | None]:
    """Read the state of a run; yields None if the run does not exist yet.

    If the user `stopped` the run and it was killed, this writes the missing event, so
    that the run does not count as died.
    """
    path = folder.path
    if not folder.recipe.exists():
        yield None
        return
    if stopped and run_state(path).state == "died":
        _log_stop(folder)
    yield run_state(path)


def _log_stop(folder: RunDirectory) -> None:
    with folder.locked():
        log = EventLog(folder.events)
        log.write(RunStopped(reason=ON_REQUEST))
        log.close()
