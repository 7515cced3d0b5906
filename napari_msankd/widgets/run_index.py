"""The states of all runs in a folder, cheap to read repeatedly."""

import os
from collections.abc import Iterator
from pathlib import Path

from src_training.runs.directory import RunDirectory
from src_training.runs.events import read_event
from src_training.runs.history import RunHistory
from src_training.runs.state import RunState, read_state

_TAIL = 2**15
"""Bytes at the end of an event log to read, about 150 events."""


class RunIndex:
    """The runs in a folder and others that were added, newest first.

    Where possible, only the last events of a run are read. A run that ended is not read
    again until it is resumed.

    Parameters
    ----------
    root
        The folder; may not exist yet.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._added: list[Path] = []
        self._runs: dict[Path, _IndexedRun] = {}

    def add(self, path: Path) -> None:
        """List a run of another folder."""
        if path not in self._added and path.parent != self.root:
            self._added.append(path)

    def read(self) -> Iterator[list[RunState]]:
        """Yield the states of all runs; for a worker, one at a time."""
        listed = [*self.root.glob("*/recipe.yaml"), *(path / "recipe.yaml" for path in self._added)]
        written = {recipe.parent: _written(recipe)[0] for recipe in listed if recipe.exists()}
        newest = sorted(written, key=lambda path: -written[path])
        yield [self._runs.setdefault(path, _IndexedRun(path)).read() for path in newest]


class _IndexedRun:
    """A run, its last state, and time and size of its event log at that time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[float, int] | None = None
        self._state: RunState | None = None

    def read(self) -> RunState:
        """The current state."""
        stamp = _written(RunDirectory(self._path).events)
        former, has_grown = self._state, stamp != self._stamp
        if former is not None and not has_grown and former.state != "running":
            return former
        tail = _read_tail(RunDirectory(self._path).events)
        still_running = former is not None and former.state == "running" and has_grown
        if tail.state in ("finished", "stopped") or still_running:
            self._state = self._from_tail(tail)
        else:
            self._state = read_state(self._path)
        self._stamp = stamp
        return self._state

    def _from_tail(self, tail: RunHistory) -> RunState:
        """The state by the last events, which may lack the number of steps."""
        stage, step, steps = tail.position
        former = self._state
        former_steps = former.steps if former is not None and former.stage == stage else 0
        state = "running" if tail.state == "waiting" else tail.state
        name = self._path.name
        return RunState(
            self._path, name, state, stage, step, steps or former_steps, tail.stop_reason
        )


def _read_tail(events: Path) -> RunHistory:
    """The history of the last events of a run."""
    tail = RunHistory()
    try:
        with events.open("rb") as file:
            file.seek(-min(_TAIL, file.seek(0, os.SEEK_END)), os.SEEK_END)
            lines = file.read().split(b"\n")
    except OSError:  # missing or unreadable; `read_state` reports it
        return tail
    for line in lines:
        if (event := read_event(line)) is not None:
            tail.take(event)
    return tail


def _written(file: Path) -> tuple[float, int]:
    """Modification time and size of a file; zeros if it does not exist."""
    try:
        status = file.stat()
    except OSError:
        return 0.0, 0
    return status.st_mtime, status.st_size
