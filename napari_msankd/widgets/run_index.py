"""The state of all runs of a folder, read repeatedly at little cost."""

import os
from collections.abc import Iterator
from pathlib import Path

from src_training.runs.directory import RunDirectory
from src_training.runs.events import read_event
from src_training.runs.history import RunHistory
from src_training.runs.state import RunState, read_state

_TAIL = 2**15
"""Bytes, some 150 events: enough to know how a run ended, little enough not to be noticed."""


class RunIndex:
    """The runs directly below a folder, newest first, and others that were added.

    Of a run that ended, and of one that goes on, only the last events are
    read; what ended is not read again until it is resumed.

    Parameters
    ----------
    root
        The folder; need not be there yet.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._added: list[Path] = []
        self._runs: dict[Path, _IndexedRun] = {}

    def add(self, path: Path) -> None:
        """List a run that lies elsewhere."""
        if path not in self._added and path.parent != self.root:
            self._added.append(path)

    def read(self) -> Iterator[list[RunState]]:
        """Yield the state of every run by its last events; for a worker, one at a time."""
        listed = [*self.root.glob("*/recipe.yaml"), *(path / "recipe.yaml" for path in self._added)]
        written = {recipe.parent: _written(recipe)[0] for recipe in listed if recipe.exists()}
        newest = sorted(written, key=lambda path: -written[path])
        yield [self._runs.setdefault(path, _IndexedRun(path)).read() for path in newest]


class _IndexedRun:
    """A run, its last state, and how far its events were read then."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[float, int] | None = None
        self._state: RunState | None = None

    def read(self) -> RunState:
        """Its state now."""
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
        """From its last events; the number of steps may lie further back."""
        stage, step, steps = tail.position
        former = self._state
        known = former.steps if former is not None and former.stage == stage else 0
        state = "running" if tail.state == "waiting" else tail.state
        name = self._path.name
        return RunState(self._path, name, state, stage, step, steps or known, tail.stop_reason)


def _read_tail(events: Path) -> RunHistory:
    """The history of the last events of a run."""
    tail = RunHistory()
    try:
        with events.open("rb") as file:
            file.seek(-min(_TAIL, file.seek(0, os.SEEK_END)), os.SEEK_END)
            lines = file.read().split(b"\n")
    except OSError:  # none yet, or none that can be read: `read_state` says it
        return tail
    for line in lines:
        if (event := read_event(line)) is not None:
            tail.take(event)
    return tail


def _written(file: Path) -> tuple[float, int]:
    """When a file was written, and its size; zeros where there is none."""
    try:
        found = file.stat()
    except OSError:
        return 0.0, 0
    return found.st_mtime, found.st_size
