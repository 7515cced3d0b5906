"""A run is a directory: its recipe, its events, its stages, its models, its report.

Torch is imported only where a run is made: who looks at one does not wait for it.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import psutil  # type: ignore[import-untyped]  # it ships no types
import yaml
from filelock import FileLock, Timeout

from src_training.errors import InputError
from src_training.events import (
    Event,
    EventLog,
    RunFinished,
    RunStarted,
    RunStopped,
    StageFinished,
    StageStarted,
    StepDone,
    read_events,
)

if TYPE_CHECKING:
    from src_training.recipe import Recipe

STAGES = ("teacher", "autoencoder", "vectors", "tan", "student", "alone", "san", "distil")
Listener = Callable[[Event], None]


@dataclass(frozen=True)
class RunFolder:
    """The paths of a run; a window, a terminal or a notebook only watch them."""

    path: Path

    @property
    def recipe(self) -> Path:
        """The recipe, with every default written out."""
        return self.path / "recipe.yaml"

    @property
    def events(self) -> Path:
        """What the run said, one JSON line each."""
        return self.path / "events.jsonl"

    @property
    def model(self) -> Path:
        """The distilled student."""
        return self.path / "model.safetensors"

    @property
    def models(self) -> Path:
        """Teacher, student alone and student distilled."""
        return self.path / "models"

    @property
    def report(self) -> Path:
        """Tables of scores."""
        return self.path / "report"

    @property
    def output(self) -> Path:
        """What the process printed, where whoever started it kept that."""
        return self.path / "output.log"

    @property
    def preview_input(self) -> Path:
        """An image (H, W) or (H, W, C) that anyone may put here, at any time."""
        return self.path / "preview" / "input.npy"

    @property
    def preview_labels(self) -> Path:
        """Its labels (H, W) uint8 by the network in training, as of the last validation."""
        return self.path / "preview" / "labels.npy"

    @property
    def estimate(self) -> Path:
        """What the run was thought to cost before it began."""
        return self.path / "estimate.json"

    def stage(self, name: str) -> Path:
        """Checkpoints of a stage."""
        return self.path / "stages" / name

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run against other processes; released by the system if this one dies.

        Raises
        ------
        InputError
            If another process holds it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / ".lock")
        try:
            # Whoever looks how the run stands holds it for an instant.
            lock.acquire(timeout=0.2)
        except Timeout:
            raise InputError(
                f"{self.path}: the run directory is in use by another process; expected a free one"
            ) from None
        try:
            yield
        finally:
            lock.release()


def distil(
    recipe: "Recipe",
    out: Path,
    *,
    resume: bool = False,
    device: str = "auto",
    listener: Listener | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> Path:
    """Run a recipe: from a labelled source domain to a distilled student and its report.

    Parameters
    ----------
    recipe
        What to do.
    out
        Run directory; made if missing.
    resume
        Continue what lies there. Stages that are done are not done again.
    device
        ``auto``, or a device of torch; see `find_device`.
    listener
        Takes every event, in this process.
    stopping
        Asked after every step; true stops the run, which can be resumed.

    Returns
    -------
    Path
        The distilled student's model file.

    Raises
    ------
    InputError
        If the recipe cannot be followed, or the directory is in use or holds
        another run.
    Interrupted
        If `stopping` said so.
    """
    from src_training.training.loop import Interrupted
    from src_training.training.pipeline import Pipeline

    folder = RunFolder(Path(out))
    with folder.locked():
        _check(folder, recipe, resume)
        # Before anything is written: a recipe that cannot be followed claims no directory.
        pipeline = Pipeline(recipe, folder, device, stopping)
        if not resume:
            recipe.save(folder.recipe)
        log = EventLog(folder.events)

        def emit(event: Event) -> None:
            log.write(event)
            if listener is not None:
                listener(event)

        began = time.monotonic()
        try:
            emit(
                RunStarted(
                    device=str(pipeline.fabric.device),
                    precision=pipeline.precision,
                    stages=list(STAGES),
                )
            )
            pipeline.run(emit)
            emit(RunFinished(model=str(folder.model.name), seconds=time.monotonic() - began))
        except Interrupted:
            emit(RunStopped(reason="stopped on request"))
            raise
        except Exception as error:
            emit(RunStopped(reason=f"{type(error).__name__}: {error}"))
            raise
        finally:
            log.close()
    return folder.model


def _check(folder: RunFolder, recipe: "Recipe", resume: bool) -> None:
    """See that a new run has its directory to itself, and an old one the same recipe."""
    from src_training.recipe import Recipe

    if not folder.recipe.exists():
        if resume:
            raise InputError(
                f"{folder.path}: there is no run to resume; expected recipe.yaml in it"
            )
        return
    if not resume:
        raise InputError(
            f"{folder.path}: the directory holds a run already; resume it or name another"
        )
    if Recipe.load(folder.recipe) != recipe:
        raise InputError(
            f"{folder.recipe}: the run was begun with another recipe; "
            "expected the same, or a new directory"
        )


@dataclass(frozen=True)
class RunState:
    """How a run stands, told from its directory alone.

    Attributes
    ----------
    path, name
        The directory, and the recipe's name.
    state
        ``running``, ``finished``, ``stopped`` (on request, or by an error
        that it reported), ``died`` (it ended without a word) or
        ``unreadable`` (its recipe is broken).
    stage, step, steps
        The last stage begun, and how far it came.
    finished_stages
        Stages that are done.
    last_words
        Why it stopped or died, as far as can be known.
    """

    path: Path
    name: str
    state: str
    stage: str
    step: int
    steps: int
    finished_stages: tuple[str, ...]
    last_words: str = ""


def run_state(path: Path) -> RunState:
    """How the run in a directory stands.

    Raises
    ------
    InputError
        If there is no run in it.
    """
    folder = RunFolder(path)
    name = _name(folder.recipe)
    stage, step, steps, words, finished = "", 0, 0, "", []
    state = "died"
    events = read_events(folder.events)
    for event in events:
        match event:
            case RunStarted():
                state, words = "died", ""
            case StageStarted():
                stage, step, steps = event.stage, event.step, event.steps
            case StepDone():
                step = event.step
            case StageFinished():
                finished.append(event.stage)
            case RunFinished():
                state = "finished"
            case RunStopped():
                state, words = "stopped", event.reason
    if state == "died":
        state, words = _unsaid(folder, events[-1] if events else None)
    return RunState(path, name, state, stage, step, steps, tuple(finished), words)


def find_runs(root: Path) -> list[RunState]:
    """Every run directly below a folder, newest first."""
    recipes = sorted(root.glob("*/recipe.yaml"), key=lambda file: -file.stat().st_mtime)
    return [_state_or_fault(recipe.parent) for recipe in recipes]


def _state_or_fault(path: Path) -> RunState:
    try:
        return run_state(path)
    except InputError as error:
        return RunState(path, path.name, "unreadable", "", 0, 0, (), str(error))


def _name(recipe: Path) -> str:
    """The name in a recipe, without the rest."""
    try:
        content = yaml.safe_load(recipe.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{recipe.parent}: there is no run in it; expected recipe.yaml") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        first = str(error).splitlines()[0]
        raise InputError(f"{recipe}: the file is not YAML ({first})") from None
    name = content.get("name") if isinstance(content, dict) else None
    if not isinstance(name, str):
        raise InputError(f"{recipe}: the recipe has no name; expected one that msankd wrote")
    return name


def _unsaid(folder: RunFolder, last: Event | None) -> tuple[str, str]:
    """State and last words of a run that has not said how it ended."""
    if _is_locked(folder):
        return "running", ""
    ended = datetime.fromisoformat(last.time).timestamp() if last is not None else 0.0
    said = _last_line(folder.output, ended)
    if last is None and not said:
        return "stopped", "not begun yet"
    if last is not None and psutil.boot_time() > ended:
        return "died", "the machine was restarted"
    return "died", said or "killed, or out of memory"


def _last_line(output: Path, since: float) -> str:
    """The last line that was printed, if it was at that time or later."""
    try:
        if output.stat().st_mtime < since:
            return ""
        lines = output.read_bytes()[-4096:].decode(errors="replace").splitlines()
    except FileNotFoundError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _is_locked(folder: RunFolder) -> bool:
    try:
        with FileLock(folder.path / ".lock", timeout=0):
            return False
    except Timeout:
        return True
