"""The user's choices for a run, and the recipe made from them; no Qt."""

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
"""Instead of the name of a student: choose the network by the preprocessing of the images."""


@dataclass(frozen=True)
class NetworkChoice:
    """The teacher or the student: a new network, or a model to start from.

    Attributes
    ----------
    name
        Name of a new network; for a student also `RECOMMENDED`. Of `NO_TEACHER` it is ``none``.
    start_from
        Model file to start from, which determines the network; None for a new network.
    train
        Whether to train it; a teacher can also be used frozen.
    external
        Fields of `ExternalModel`, if the file is a model in another format.
    """

    name: str
    start_from: Path | None = None
    train: bool = True
    external: Mapping[str, Any] | None = None

    def fields(self, **more: Any) -> dict[str, Any]:
        """Fields of a recipe's network; `more` does not apply to a model in another format."""
        if self.external is not None:
            return {"kind": "onnx", **self.external}
        if self.start_from is None:
            return {"name": self.name} | more
        return {"start_from": str(self.start_from)} | more


NO_TEACHER = NetworkChoice("none")
"""Choice of no teacher: the student is trained alone."""


@dataclass(frozen=True)
class RunRequest:
    """The user's choices for a run.

    Attributes
    ----------
    name
        Name of the run and its model.
    sources, targets, unlabelled
        Datasets to train on, to report on, and to distil on without masks.
    teacher, student
        Networks, or models to start from.
    kind
        Preprocessing of the images; ``auto`` chooses by the first image.
    time
        Name of a preset, one of `TIMES`.
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
        If a dataset is invalid, or the request does not make a valid recipe.
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
    unlabelled = [dataset.recipe(folder) for dataset in request.unlabelled]
    without_masks = (source.unlabelled_recipe(folder) for source in request.sources)
    unlabelled += [recipe for recipe in without_masks if recipe is not None]
    kinds = {
        "fundus": FundusPreprocessing,
        "window": WindowPreprocessing,
        "percentile": IntensityPreprocessing,
        "minmax": partial(IntensityPreprocessing, percentiles=(0, 100)),
    }
    if request.kind == "auto":
        image = load_domain(sources[0], masks_required=True)[0].image
        preprocessing = preprocessing_for(image)
    else:
        preprocessing = kinds[request.kind]()
    student, teacher = request.student, request.teacher
    yield recipe_for(
        request.name,
        sources,
        targets,
        None if student == NetworkChoice(RECOMMENDED) else student.fields(),
        request.time,
        teacher=None if teacher == NO_TEACHER else teacher.fields(train=teacher.train),
        unlabelled=unlabelled,
        preprocessing=preprocessing,
    )


def with_datasets_of(edited: "Recipe", fresh: "Recipe") -> "Recipe":
    """The edited recipe with the datasets of a fresh one.

    Raises
    ------
    InputError
        If the preprocessing of the edited recipe does not support a dataset's camera.
    """
    fields = {"name", "sources", "tests"} | ({"unlabelled"} if fresh.unlabelled else set())
    written = fresh.model_dump(mode="json", include=fields)
    return edited.changed(written | {"preprocessing.angle": None}, "Advanced…")


def discard(folder: Path) -> None:
    """Remove a folder without a run."""
    shutil.rmtree(folder, ignore_errors=True)


def new_folder(root: Path, name: str) -> Path:
    """Create a directory for a new run: ``NAME``, or ``NAME-2`` if that exists.

    Raises
    ------
    OSError
        If it cannot be created.
    """
    folder, number = root / name, 2
    while True:
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            folder, number = root / f"{name}-{number}", number + 1
        else:
            return folder
