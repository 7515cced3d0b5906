"""A run is a directory: its recipe, its events, its stages, its models, its report.

Torch is imported only where a run is made: who looks at one does not wait for it.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from src_training.errors import InputError
from src_training.runs.directory import STAGES, RunDirectory
from src_training.runs.events import Event, EventLog, RunFinished, RunStarted, RunStopped, StepDone
from src_training.runs.state import RunState, find_runs, run_state

if TYPE_CHECKING:
    from src_training.config.recipe import Recipe
    from src_training.runs.pipeline import Pipeline

__all__ = ["STAGES", "RunDirectory", "RunState", "check_folder", "distil", "find_runs", "run_state"]

Listener = Callable[[Event], None]


def distil(
    recipe: "Recipe",
    out: Path,
    *,
    resume: bool = False,
    device: str = "auto",
    devices: int = 1,
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
    devices
        GPUs to train on at once, or processes on the CPU. Beyond one, this
        program is started again for each of the others: call it from a script
        that does the same in each.
    listener
        Takes every event, in this process.
    stopping
        Asked all the time; true stops the run, which can be resumed.

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
    from src_training.runs.pipeline import Pipeline
    from src_training.training.distributed.ranks import is_first

    folder = RunDirectory(Path(out))
    if devices > 1 and not is_first():
        Pipeline(recipe, folder, device, stopping, devices).train(lambda _event: None)
        return folder.model
    with folder.locked():
        check_folder(folder, recipe, resume)
        # Before anything is written: a recipe that cannot be followed claims no directory.
        pipeline = Pipeline(recipe, folder, device, stopping, devices)
        if not resume:
            recipe.save(folder.recipe)
        folder.clear_halves()
        _run(pipeline, folder, devices, listener)
    return folder.model


def _run(
    pipeline: "Pipeline", folder: RunDirectory, processes: int, listener: Listener | None
) -> None:
    """Run the stages, and let nothing end them without a word."""
    from src_training.training.interruption import Interrupted
    from src_training.training.memory_meter import MemoryMeter
    from src_training.training.stages.distillation import stage_names

    log, memory = EventLog(folder.events), MemoryMeter(pipeline.fabric.device)

    def say(event: Event) -> None:
        log.write(event)
        if listener is not None:
            listener(event)

    def emit(event: Event) -> None:
        say(event)
        if isinstance(event, StepDone) and (used := memory.read()) is not None:
            say(used)

    began = time.monotonic()
    try:
        emit(
            RunStarted(
                processes=processes,
                device=str(pipeline.fabric.device),
                precision=pipeline.precision,
                stages=list(stage_names(pipeline.recipe.distillation)),
            )
        )
        pipeline.run(emit)
        emit(RunFinished(model=str(folder.model.name), seconds=time.monotonic() - began))
    except (Interrupted, KeyboardInterrupt):
        emit(RunStopped(reason="stopped on request"))
        raise
    except Exception as error:
        emit(RunStopped(reason=f"{type(error).__name__}: {error}"))
        raise
    finally:
        log.close()


def check_folder(folder: RunDirectory, recipe: "Recipe", resume: bool) -> None:
    """See that a new run has its directory to itself, and an old one the same recipe.

    Raises
    ------
    InputError
        If not.
    """
    from src_training.config.recipe import Recipe

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
