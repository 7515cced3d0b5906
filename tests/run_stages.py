"""The stages of a run without what comes after them."""

from collections.abc import Callable

from src_training.config.recipe import Recipe
from src_training.runs.data import load_run_data
from src_training.runs.directory import RunDirectory
from src_training.runs.events import Event, Noted
from src_training.runs.monitor import DistanceCallback, EventCallback, PreviewCallback
from src_training.runs.pipeline import Pipeline
from src_training.training.builders import Networks
from src_training.training.distributed.launch import make_fabric


def run_stages(
    recipe: Recipe,
    directory: RunDirectory,
    emit: Callable[[Event], None] = lambda _event: None,
    *,
    before_run: Callable[[], None] = lambda: None,
) -> Networks:
    """Train all networks of a recipe on the CPU, watched as a run is; nothing is scored."""
    data, fabric = load_run_data(recipe), make_fabric("cpu", 1)
    pipeline = Pipeline(recipe, data, directory)
    source = [image for images in pipeline.training_images for image in images]
    before_run()
    return pipeline.run(
        fabric,
        callbacks=(
            EventCallback(emit),
            PreviewCallback(recipe, directory, data.classes, fabric.device, emit),
            DistanceCallback(recipe, source, data.tests, fabric.device, emit),
        ),
        note=lambda stage, step, sentence: emit(Noted(stage=stage, step=step, sentence=sentence)),
    )
