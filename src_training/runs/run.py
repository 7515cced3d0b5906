"""A run from its recipe to its report, in one directory.

Torch is imported only where a run is made: whoever looks at one does not wait for it.
"""

import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from src_training.errors import MEMORY_IS_FULL, InputError, is_out_of_memory
from src_training.runs.directory import RunDirectory
from src_training.runs.events import (
    Event,
    EventLog,
    Noted,
    RunFinished,
    RunStarted,
    RunStopped,
)

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from src_training.config.recipe import Recipe
    from src_training.runs.pipeline import Pipeline

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
    from src_training.runs.data import load_run_data
    from src_training.runs.pipeline import Pipeline
    from src_training.training.distributed.launch import is_rank_zero, make_fabric

    directory = RunDirectory(Path(out))
    first = is_rank_zero()
    with directory.locked() if first else nullcontext():
        if first:
            check_directory(directory, recipe, resume)
        fabric = make_fabric(device, devices)
        # Before anything is written: a recipe that cannot be followed claims no directory.
        pipeline = Pipeline(recipe, load_run_data(recipe), directory, devices)
        if devices > 1:
            fabric.launch()
        pipeline.prepare()
        if not first:
            pipeline.run(fabric, stopping=stopping)
            return directory.model
        if not resume:
            recipe.save(directory.recipe)
        directory.clear_halves()
        _run(pipeline, fabric, devices, listener, stopping)
    return directory.model


def _run(
    pipeline: "Pipeline",
    fabric: "Fabric",
    processes: int,
    listener: Listener | None,
    stopping: Callable[[], bool],
) -> None:
    """Execute a pipeline; the events say how it ended."""
    from src_training.config.stages import stages_of
    from src_training.device import training_precision
    from src_training.training.interruption import Interrupted

    log = EventLog(pipeline.directory.events)

    def emit(event: Event) -> None:
        log.write(event)
        if listener is not None:
            listener(event)

    began, model = time.monotonic(), pipeline.directory.model
    try:
        emit(
            RunStarted(
                processes=processes,
                device=str(fabric.device),
                precision=training_precision(fabric.device),
                stages=[spec.name for spec in stages_of(pipeline.recipe)],
                classes=list(pipeline.data.classes),
            )
        )
        execute(pipeline, fabric, emit, stopping)
        emit(RunFinished(model=model.name, seconds=time.monotonic() - began))
    except (Interrupted, KeyboardInterrupt):
        emit(RunStopped(reason="stopped on request"))
        raise
    except Exception as error:
        full = is_out_of_memory(error)
        emit(RunStopped(reason=MEMORY_IS_FULL if full else f"{type(error).__name__}: {error}"))
        raise
    finally:
        log.close()


def execute(
    pipeline: "Pipeline", fabric: "Fabric", emit: Listener, stopping: Callable[[], bool]
) -> None:
    """Run the stages of a pipeline, watched, and write what a run leaves.

    Parameters
    ----------
    pipeline, fabric
        What to run, on which device.
    emit
        Takes every event but those of the run's start and end.
    stopping
        See `distil`.
    """
    from src_training.runs.finalise import finalise
    from src_training.runs.monitor import (
        DistanceCallback,
        EventCallback,
        MemoryCallback,
        PreviewCallback,
    )

    recipe, data, directory = pipeline.recipe, pipeline.data, pipeline.directory
    source = [image for images in pipeline.training_images for image in images]

    def note(stage: str, step: int, sentence: str) -> None:
        emit(Noted(stage=stage, step=step, sentence=sentence))

    callbacks = (
        EventCallback(emit),
        MemoryCallback(fabric.device, emit),
        PreviewCallback(recipe, directory, data.classes, fabric.device, emit),
        DistanceCallback(recipe, source, data.tests, fabric.device, emit),
    )
    networks = pipeline.run(fabric, callbacks=callbacks, note=note, stopping=stopping)
    finalise(recipe, data, networks, directory, fabric.device)


def check_directory(directory: RunDirectory, recipe: "Recipe", resume: bool) -> None:
    """Check that a new run has its directory to itself, and a resumed one the same recipe.

    Raises
    ------
    InputError
        If not; the message names the directory or the recipe.
    """
    from src_training.config.recipe import Recipe

    if not directory.recipe.exists():
        if resume:
            raise InputError(
                f"{directory.path}: there is no run to resume; expected recipe.yaml in it"
            )
        return
    if not resume:
        raise InputError(
            f"{directory.path}: the directory holds a run already; resume it or name another"
        )
    if Recipe.load(directory.recipe) != recipe:
        raise InputError(
            f"{directory.recipe}: the run was begun with another recipe; "
            "expected the same, or a new directory"
        )
