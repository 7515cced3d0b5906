"""How a run stands, from its directory alone."""

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
    """How a run stands, from its directory alone.

    Attributes
    ----------
    path, name
        The directory, and the recipe's name.
    state
        ``running``, ``finished``, ``stopped`` (on request, by an error that
        it reported, or not begun yet), ``died`` (it ended without a word) or
        ``unreadable`` (its recipe is broken, or its folder closed).
    stage, step, steps
        The last stage begun, and how far it came; `SCORING` and 0 after the
        last; empty and 0 before the first and at the end.
    stop_reason
        Why it stopped or died, as far as can be known.
    """

    path: Path
    name: str
    state: str
    stage: str
    step: int
    steps: int
    stop_reason: str = ""


def run_state(path: Path) -> RunState:
    """How the run in a directory stands.

    Raises
    ------
    InputError
        If there is no run in it, or its recipe is no YAML or has no name.
    """
    directory, history = RunDirectory(path), RunHistory()
    name, last = _name(directory.recipe), history.read(directory.events)
    if history.state in ("waiting", "running") and not directory.in_use:
        # It may have ended between the last event that was read and now.
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
    """Every run below a folder, the one begun last first; see `RunState.state`.

    A comparison among them has its own by seed and method: ``NAME/seed-0/gkd``.
    """
    found = [file for deep in ("*", "*/*", "*/*/*") for file in root.glob(f"{deep}/recipe.yaml")]
    recipes = sorted(found, key=_written, reverse=True)
    return [read_state(recipe.parent) for recipe in recipes]


def read_state(path: Path) -> RunState:
    """How the run in a directory stands; ``unreadable`` where `run_state` raises."""
    try:
        return run_state(path)
    # Whatever is in one folder, the others are listed.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        return RunState(path, path.name, "unreadable", "", 0, 0, reason)


def _written(file: Path) -> float:
    """When a file was written; 0 where it is gone or closed."""
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def _name(recipe: Path) -> str:
    """The name in a recipe, without the rest."""
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
    """State and last words of a run that nobody is at, and whose events do not say how it ended."""
    ended = 0.0
    with suppress(ValueError, OverflowError):  # a time that nobody wrote
        ended = datetime.fromisoformat(last.time).timestamp() if last is not None else 0.0
    output = _last_line(directory.output, ended)
    if last is None and not output:
        return "stopped", "not begun yet"
    if ended and psutil.boot_time() > ended:
        return "died", "the machine was restarted"
    return "died", output or "killed, or out of memory"


def _last_line(output: Path, since: float) -> str:
    """The last line that was printed, if it was at that time or later."""
    try:
        if output.stat().st_mtime < since:
            return ""
        return last_line(output.read_bytes()[-4096:])
    except FileNotFoundError:
        return ""
