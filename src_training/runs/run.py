"""A run: from a recipe to trained models and their report, in one directory.

Torch is imported only inside the functions that train, because it takes seconds to import.
"""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from src_training.errors import MEMORY_IS_FULL, InputError, is_out_of_memory
from src_training.io.atomic import write_text
from src_training.io.folders import some_names
from src_training.runs.directory import RunDirectory
from src_training.runs.events import (
    ON_REQUEST,
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

CHANGED_IMAGES = "--changed-images"
"""Command-line option that resumes a run although its images changed."""


def distil(
    recipe: "Recipe",
    out: Path,
    *,
    resume: bool = False,
    device: str = "auto",
    devices: int = 1,
    listener: Listener | None = None,
    stopping: Callable[[], bool] = lambda: False,
    changed_images: bool = False,
) -> Path:
    """Run a recipe: train the models, score them, and write the report.

    Parameters
    ----------
    recipe
        Recipe of the run.
    out
        Directory of the run; created if missing.
    resume
        Whether to continue the run in `out`. Finished stages are not repeated.
    device
        ``auto``, or a device of torch; see `find_device`.
    devices
        Number of GPUs to train on in parallel, or of processes on the CPU. With more than one,
        this program is started once for each further process, so it must be a script
        that makes the same call in each of them.
    listener
        Called with every event, in this process.
    stopping
        Polled during training; true stops the run, which can be resumed.
    changed_images
        Whether to resume although images have changed since the run began.

    Returns
    -------
    Path
        Model file of the distilled student, or of the student trained alone.

    Raises
    ------
    InputError
        If the recipe is invalid, the directory is in use, contains another run or is
        removed, or images change during the run.
    Interrupted
        If `stopping` returned true.
    """
    from src_training.runs.data import changed_cases, digests_of, load_run_data
    from src_training.runs.pipeline import Pipeline
    from src_training.training.distributed.launch import is_rank_zero, make_fabric

    unlocked = RunDirectory(Path(out))
    first = is_rank_zero()
    with unlocked.locked() if first else nullcontext(unlocked) as directory:
        if first:
            check_directory(directory, recipe, resume)
        fabric = make_fabric(device, devices)
        # Check data and networks before the recipe is saved, so that an invalid recipe leaves no
        # run in the directory.
        data = load_run_data(recipe)
        pipeline = Pipeline(recipe, data, directory, devices)
        if devices > 1:
            fabric.launch()
        pipeline.prepare()
        if not first:
            pipeline.run(fabric, stopping=stopping)
            return directory.model
        digests = digests_of(data)
        notes = changed_cases(directory.cases, data, digests) if resume else []
        if notes and not changed_images:
            raise _changed_images_error(directory, notes)
        if not resume:
            recipe.save(directory.recipe)
        write_text(directory.cases, json.dumps(digests))
        directory.clear_halves()
        _run(pipeline, fabric, devices, listener, stopping, notes)
    return directory.model


def _run(
    pipeline: "Pipeline",
    fabric: "Fabric",
    processes: int,
    listener: Listener | None,
    stopping: Callable[[], bool],
    changes: Sequence[str] = (),
) -> None:
    """Execute a pipeline, and log its start, its end, and the `changes` of images it accepted."""
    from src_training.config.stages import stages_of
    from src_training.device import training_precision
    from src_training.training.interruption import Interrupted

    log = EventLog(pipeline.directory.events)

    def emit(event: Event) -> None:
        event = event.model_copy(update={"clock": round(time.monotonic(), 3)})
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
        if changes:
            sentence = f"The run goes on though its images changed: {some_names(changes)}."
            emit(Noted(stage=stages_of(pipeline.recipe)[0].name, step=0, sentence=sentence))
        execute(pipeline, fabric, emit, stopping)
        emit(RunFinished(model=model.name, seconds=time.monotonic() - began))
    except (Interrupted, KeyboardInterrupt):
        emit(RunStopped(reason=ON_REQUEST))
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
    """Run the stages of a pipeline with callbacks, then write models and report.

    Parameters
    ----------
    pipeline, fabric
        Pipeline to run, and its device.
    emit
        Called with every event except those of the run's start and end.
    stopping
        See `distil`.
    """
    from src_training.runs.data import changed_cases, digests_of
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
    if changes := changed_cases(directory.cases, data, digests_of(data)):
        raise _changed_images_error(directory, changes)
    finalise(recipe, data, networks, directory, fabric.device)


def _changed_images_error(directory: RunDirectory, changes: Sequence[str]) -> InputError:
    return InputError(
        f"{directory.path}: since the run began, {some_names(changes)}; expected the same images, "
        f"or {CHANGED_IMAGES} beside --resume to go on with those there are now"
    )


def check_directory(directory: RunDirectory, recipe: "Recipe", resume: bool) -> None:
    """Check that the directory of a new run contains no run, or that a resumed run has this recipe.

    Raises
    ------
    InputError
        If the check fails; the message names the directory or the recipe.
    """
    from src_training.config.recipe import Recipe
    from src_training.config.stages import first_difference

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
    stored = Recipe.load(directory.recipe)
    if stored != recipe:
        was, now = stored.model_dump(mode="json"), recipe.model_dump(mode="json")
        field, before, wanted = first_difference(was, now) or ("a field", "another value", "this")
        raise InputError(
            f"{directory.recipe}: the run was begun with another recipe, whose {field} is "
            f"{before!r} and not {wanted!r}; expected the same, or a new directory"
        )
