"""What a person asks for on the Prepare page, and the recipe it becomes; knows no Qt."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from napari_msankd.datasets.selection import Dataset
from napari_msankd.torch_import import gc_paused, preload

if TYPE_CHECKING:
    from src_training.config.recipe import Recipe

Kind = Literal["auto", "fundus", "window", "percentile", "minmax"]


@dataclass(frozen=True)
class RunRequest:
    """A run as it was asked for.

    Attributes
    ----------
    name
        Of the run and its model.
    source, targets
        What to learn from, and what to measure the distance to.
    kind
        How images are prepared; ``auto`` looks at the first one.
    student
        Name of its network.
    time
        A preset's name, one of `TIMES`.
    start_from
        Model file that the student starts from; None for random weights.
    """

    name: str
    source: Dataset
    targets: tuple[Dataset, ...]
    kind: Kind
    student: str
    time: str
    start_from: Path | None


def recipe_of(plan: RunRequest, folder: Path) -> Iterator["Recipe"]:
    """Write the layers of a plan into `folder` and yield its recipe; for a worker.

    Raises
    ------
    InputError
        If a domain cannot be used, or the plan makes no recipe.
    OSError
        If a layer cannot be written.
    """
    preload()
    with gc_paused():
        from src_training.config.presets import preprocessing_for, recipe_for
        from src_training.data.preprocessing import (
            FundusPreprocessing,
            IntensityPreprocessing,
            WindowPreprocessing,
        )
        from src_training.runs.data import load_domain

    source = plan.source.recipe(folder)
    targets = [target.recipe(folder, source.class_values) for target in plan.targets]
    made = {
        "fundus": FundusPreprocessing,
        "window": WindowPreprocessing,
        "percentile": IntensityPreprocessing,
        "minmax": partial(IntensityPreprocessing, percentiles=(0, 100)),
    }
    if plan.kind == "auto":
        preprocessing = preprocessing_for(load_domain(source, masks_required=True)[0].image)
    else:
        preprocessing = made[plan.kind]()
    yield recipe_for(
        plan.name,
        [source],
        targets,
        {"start_from": str(plan.start_from)} if plan.start_from else plan.student,
        plan.time,
        preprocessing=preprocessing,
    )


def with_domains_of(edited: "Recipe", fresh: "Recipe") -> "Recipe":
    """A recipe that a person edited, on the domains as they were written just now.

    Raises
    ------
    InputError
        If a domain has a camera that the edited recipe does not prepare images for.
    """
    written = fresh.model_dump(mode="json", include={"name", "sources", "tests"})
    return edited.changed(written | {"preprocessing.angle": None}, "Advanced…")


def discard(folder: Path) -> None:
    """Remove a folder that no run came to."""
    shutil.rmtree(folder, ignore_errors=True)


def new_folder(root: Path, name: str) -> Path:
    """Make a directory for a new run: ``NAME``, or ``NAME-2`` where that is taken.

    Raises
    ------
    OSError
        If none can be made.
    """
    folder, number = root / name, 2
    while True:
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            folder, number = root / f"{name}-{number}", number + 1
        else:
            return folder
