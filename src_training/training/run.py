"""A run is a directory: its recipe, its events, its stages, its models, its report."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

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
from src_training.recipe import Recipe
from src_training.training.loop import Interrupted

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
    recipe: Recipe,
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
    # Torch, MONAI and Fabric take seconds to import: a caller that only
    # looks at run folders does not pay for them.
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


def _check(folder: RunFolder, recipe: Recipe, resume: bool) -> None:
    """See that a new run has its directory to itself, and an old one the same recipe."""
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
        Why it stopped, where it said so.
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
    recipe = Recipe.load(folder.recipe)
    stage, step, steps, words, finished = "", 0, 0, "", []
    state = "died"
    for event in read_events(folder.events):
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
    if state == "died" and _is_locked(folder):
        state = "running"
    return RunState(path, recipe.name, state, stage, step, steps, tuple(finished), words)


def find_runs(root: Path) -> list[RunState]:
    """Every run directly below a folder, newest first."""
    recipes = sorted(root.glob("*/recipe.yaml"), key=lambda file: -file.stat().st_mtime)
    return [_state_or_fault(recipe.parent) for recipe in recipes]


def _state_or_fault(path: Path) -> RunState:
    try:
        return run_state(path)
    except InputError as error:
        return RunState(path, path.name, "unreadable", "", 0, 0, (), str(error))


def _is_locked(folder: RunFolder) -> bool:
    try:
        with FileLock(folder.path / ".lock", timeout=0):
            return False
    except Timeout:
        return True
