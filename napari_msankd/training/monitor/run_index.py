"""How all runs of a folder stand, looked at again and again at little cost."""

import os
from collections.abc import Iterator
from pathlib import Path

from src_training.errors import InputError
from src_training.runs.directory import RunDirectory
from src_training.runs.events import read_event
from src_training.runs.history import RunHistory
from src_training.runs.state import RunState, run_state

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
        self._seen: dict[Path, _Seen] = {}

    def add(self, path: Path) -> None:
        """List a run that lies elsewhere."""
        if path not in self._added and path.parent != self.root:
            self._added.append(path)

    def look(self) -> Iterator[list[RunState]]:
        """How every run stands, as far as its last events tell; for a worker, one at a time."""
        listed = [*self.root.glob("*/recipe.yaml"), *(path / "recipe.yaml" for path in self._added)]
        written = {recipe.parent: _written(recipe)[0] for recipe in listed if recipe.exists()}
        newest = sorted(written, key=lambda path: -written[path])
        yield [self._seen.setdefault(path, _Seen(path)).look() for path in newest]


class _Seen:
    """A run as it stood, and what it had said by then."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[float, int] | None = None
        self._state: RunState | None = None

    def look(self) -> RunState:
        """How it stands now."""
        stamp = _written(RunDirectory(self._path).events)
        former, says_more = self._state, stamp != self._stamp
        if former is not None and not says_more and former.state != "running":
            return former
        said = _last_said(RunDirectory(self._path).events)
        goes_on = former is not None and former.state == "running" and says_more
        if said.state in ("finished", "stopped") or goes_on:
            self._state = self._as_it_said(said)
        else:
            self._state = self._judged()
        self._stamp = stamp
        return self._state

    def _as_it_said(self, said: RunHistory) -> RunState:
        """As its events say; they may lie too far back to tell how long the stage is."""
        stage, step, steps = said.position
        former = self._state
        known = former.steps if former is not None and former.stage == stage else 0
        state = "running" if said.state == "waiting" else said.state
        name = self._path.name
        return RunState(self._path, name, state, stage, step, steps or known, said.last_words)

    def _judged(self) -> RunState:
        try:
            return run_state(self._path)
        except (InputError, OSError) as error:
            return RunState(self._path, self._path.name, "unreadable", "", 0, 0, str(error))


def _last_said(events: Path) -> RunHistory:
    """What the last events of a run add up to."""
    said = RunHistory()
    try:
        with events.open("rb") as file:
            file.seek(-min(_TAIL, file.seek(0, os.SEEK_END)), os.SEEK_END)
            lines = file.read().split(b"\n")
    except FileNotFoundError:
        return said
    for line in lines:
        if (event := read_event(line)) is not None:
            said.take(event)
    return said


def _written(file: Path) -> tuple[float, int]:
    """When a file was written, and its size; zeros where there is none."""
    try:
        found = file.stat()
    except FileNotFoundError:
        return 0.0, 0
    return found.st_mtime, found.st_size
