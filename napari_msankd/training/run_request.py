"""A run as a person asks for it, and the recipe it becomes; knows no Qt."""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from napari_msankd.torch_import import gc_paused, preload

if TYPE_CHECKING:
    from napari_msankd.datasets.selection import Dataset
    from src_training.config.recipe import Recipe

Kind = Literal["auto", "fundus", "window", "percentile", "minmax"]
Datasets = tuple["Dataset", ...]
RECOMMENDED = "recommended"
"""Instead of the name of a student: the one that suits how its images are prepared."""


@dataclass(frozen=True)
class NetworkChoice:
    """The teacher or the student: a new network, or a model to start from.

    Attributes
    ----------
    name
        Of a new network; of a student also `RECOMMENDED`.
    start_from
        Model file to start from, which names the network; None for a new one.
    train
        Whether it is trained; else a teacher is used as it is.
    external
        Fields of `ExternalModel`, where the file is a model from elsewhere.
    """

    name: str
    start_from: Path | None = None
    train: bool = True
    external: Mapping[str, Any] | None = None

    def fields(self, **more: Any) -> dict[str, Any]:
        """Fields of a recipe's network, and others, which a model from elsewhere has none of."""
        if self.external is not None:
            return {"kind": "onnx", **self.external}
        if self.start_from is None:
            return {"name": self.name} | more
        return {"start_from": str(self.start_from)} | more


@dataclass(frozen=True)
class RunRequest:
    """A run as it was asked for.

    Attributes
    ----------
    name
        Of the run and its model.
    sources, targets, unlabelled
        What to train on, what to report on, and what to distil on without masks.
    teacher, student
        Which networks, or which models they start from.
    kind
        How images are prepared; ``auto`` looks at the first one.
    time
        A preset's name, one of `TIMES`.
    """

    name: str
    sources: Datasets
    targets: Datasets
    unlabelled: Datasets
    teacher: NetworkChoice
    student: NetworkChoice
    kind: Kind
    time: str


def make_recipe(request: RunRequest, folder: Path) -> Iterator["Recipe"]:
    """Write the layers of a request into `folder` and yield its recipe; for a worker.

    Raises
    ------
    InputError
        If a dataset cannot be used, or the request makes no recipe.
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

    first, *others = request.sources
    sources = [first.recipe(folder)]
    classes = sources[0].class_values
    sources += [source.recipe(folder, classes) for source in others]
    targets = [target.recipe(folder, classes) for target in request.targets]
    unlabelled = [each.recipe(folder) for each in request.unlabelled]
    joined = (each.unlabelled_recipe(folder) for each in request.sources)
    unlabelled += [recipe for recipe in joined if recipe is not None]
    made = {
        "fundus": FundusPreprocessing,
        "window": WindowPreprocessing,
        "percentile": IntensityPreprocessing,
        "minmax": partial(IntensityPreprocessing, percentiles=(0, 100)),
    }
    if request.kind == "auto":
        image = load_domain(sources[0], masks_required=True)[0].image
        preprocessing = preprocessing_for(image)
    else:
        preprocessing = made[request.kind]()
    yield recipe_for(
        request.name,
        sources,
        targets,
        None if request.student == NetworkChoice(RECOMMENDED) else request.student.fields(),
        request.time,
        teacher=request.teacher.fields(train=request.teacher.train),
        unlabelled=unlabelled,
        preprocessing=preprocessing,
    )


def with_datasets_of(edited: "Recipe", fresh: "Recipe") -> "Recipe":
    """A recipe that a person edited, on the datasets as they were written just now.

    Raises
    ------
    InputError
        If a dataset has a camera that the edited recipe does not prepare images for.
    """
    fields = {"name", "sources", "tests"} | ({"unlabelled"} if fresh.unlabelled else set())
    written = fresh.model_dump(mode="json", include=fields)
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
