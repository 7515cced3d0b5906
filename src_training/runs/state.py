"""The state of a run, read from its directory."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psutil
import yaml

from src_training.errors import InputError
from src_training.io.yaml_json import parse_yaml
from src_training.runs.directory import RunDirectory
from src_training.runs.events import Event
from src_training.runs.history import RunHistory
from src_training.runs.process import last_line


@dataclass(frozen=True)
class RunState:
    """State and progress of a run.

    Attributes
    ----------
    path, name
        Directory of the run, and name in its recipe.
    state
        ``running``, ``finished``, ``stopped`` (on request, by an error that
        it reported, or not begun yet), ``died`` (its process ended without an event) or
        ``unreadable`` (the recipe is broken, or the folder is not accessible).
    stage, step, steps
        Current stage, its steps done and all its steps; `SCORING` and zeros after the
        last stage; empty and zeros before the first stage and at the end.
    stop_reason
        Reason why it stopped or died, if known.
    """

    path: Path
    name: str
    state: str
    stage: str
    step: int
    steps: int
    stop_reason: str = ""


def run_state(path: Path) -> RunState:
    """Return the state of the run in a directory.

    Raises
    ------
    InputError
        If the directory contains no run, or its recipe is no YAML or has no name.
    """
    directory, history = RunDirectory(path), RunHistory()
    name, last = _name(directory.recipe), history.read(directory.events)
    if history.state in ("waiting", "running") and not directory.in_use:
        # The run may have ended after its events were read: read them again.
        history = RunHistory()
        last = history.read(directory.events)
        state, stop_reason = str(history.state), history.stop_reason
        if state in ("waiting", "running"):
            state, stop_reason = _died(directory, last)
    else:
        state = "running" if history.state == "waiting" else str(history.state)
        stop_reason = history.stop_reason
    return RunState(path, name, state, *history.position, stop_reason)


def find_runs(root: Path) -> list[RunState]:
    """Return the states of all runs below a folder, the most recently begun first.

    This includes the runs of comparisons, whose directories are ``NAME/SEED/METHOD``, such as
    ``NAME/seed-0/gkd``.
    """
    recipes = [file for deep in ("*", "*/*", "*/*/*") for file in root.glob(f"{deep}/recipe.yaml")]
    recipes.sort(key=_modified, reverse=True)
    return [read_state(recipe.parent) for recipe in recipes]


def read_state(path: Path) -> RunState:
    """Return the state of the run in a directory; ``unreadable`` if `run_state` raises."""
    try:
        return run_state(path)
    # An error in one folder must not hide the runs in the others.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        return RunState(path, path.name, "unreadable", "", 0, 0, reason)


def _modified(file: Path) -> float:
    """Modification time of a file; 0 if it is gone or not accessible."""
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def _name(recipe: Path) -> str:
    """Read the name in a recipe without checking its other fields."""
    try:
        content = parse_yaml(recipe.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{recipe.parent}: there is no run in it; expected recipe.yaml") from None
    except yaml.YAMLError as error:
        raise InputError(f"{recipe}: the file is not YAML ({error})") from None
    name = content.get("name") if isinstance(content, dict) else None
    if not isinstance(name, str):
        raise InputError(f"{recipe}: the recipe has no name; expected one that msankd wrote")
    return name


def _died(directory: RunDirectory, last: Event | None) -> tuple[str, str]:
    """State and stop reason of a run without a process and without an event on its end."""
    ended = 0.0
    with suppress(ValueError, OverflowError):  # an invalid time
        ended = datetime.fromisoformat(last.time).timestamp() if last is not None else 0.0
    output = _last_line(directory.output, ended)
    if last is None and not output:
        return "stopped", "not begun yet"
    if ended and psutil.boot_time() > ended:
        return "died", "the machine was restarted"
    return "died", output or "killed, or out of memory"


def _last_line(output: Path, since: float) -> str:
    """The last line of the output, if it was written at that time or later; empty otherwise."""
    try:
        if output.stat().st_mtime < since:
            return ""
        return last_line(output.read_bytes()[-4096:])
    except FileNotFoundError:
        return ""
