"""The networks of a run from its checkpoints: no domain is read, nothing is trained."""

from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open
from torch import nn

from src_training.alignment.semantic_autoencoder import SemanticAutoencoder
from src_training.config.recipe import Recipe
from src_training.errors import InputError
from src_training.explore.teacher_student import TeacherStudentPair
from src_training.networks import SegmentationNetwork
from src_training.runs.directory import RunDirectory
from src_training.training.builders import (
    build_alignment_network,
    build_autoencoder,
    build_recipe_network,
)
from src_training.training.checkpoint import load_checkpoint, read_progress
from src_training.training.snapshots import snapshot_files

# The last layer of P-SAE has a channel for every foreground class.
_FOREGROUND = "weights/decoder.4.bias"


@dataclass(frozen=True, eq=False)
class RunNetworks(TeacherStudentPair):
    """What a run has trained, on the CPU and in evaluation mode.

    Attributes
    ----------
    recipe
        Of the run.
    autoencoder
        P-SAE.
    alone
        The student from masks alone; the distilled one is `student`.
    """

    recipe: Recipe
    autoencoder: SemanticAutoencoder
    alone: SegmentationNetwork


def load_networks(run: Path) -> RunNetworks:
    """The networks of a run, each by its best validation so far.

    Raises
    ------
    InputError
        If the directory holds no run, a stage has not come to its first
        validation, or a checkpoint is broken; the message names it.
    """
    folder, recipe = RunDirectory(Path(run)), _recipe(Path(run))
    classes = _classes(folder)
    autoencoder = build_autoencoder(recipe, classes)
    teacher = build_recipe_network(recipe, recipe.teacher, classes)
    alone, student = (build_recipe_network(recipe, recipe.student, classes) for _ in range(2))
    tan, san = build_alignment_network(recipe, teacher), build_alignment_network(recipe, student)
    for stage, module in (
        ("teacher", teacher),
        ("autoencoder", autoencoder),
        ("vectors", autoencoder.alignment),
        ("tan", tan),
        ("alone", alone),
        ("san", san),
        ("distil", student),
    ):
        _fill(module, _best(folder, stage))
    return RunNetworks(
        teacher=teacher,
        tan=tan,
        student=student,
        san=san,
        preprocessing=recipe.preprocessing,
        augmentation=recipe.augmentation,
        patch=recipe.patch,
        centred=recipe.centred_vectors,
        recipe=recipe,
        autoencoder=autoencoder,
        alone=alone,
    )


def checkpoints(run: Path) -> list[int]:
    """Steps of the stage ``distil`` whose weights the run has kept, rising; empty without a run."""
    return list(snapshot_files(RunDirectory(Path(run)).stage("distil")))


def student_at(run: Path, step: int) -> SegmentationNetwork:
    """The distilled student after so many steps, on the CPU and in evaluation mode.

    Raises
    ------
    InputError
        If the directory holds no run, or the weights of that step were not
        kept or are broken.
    """
    folder, recipe = RunDirectory(Path(run)), _recipe(Path(run))
    kept = snapshot_files(folder.stage("distil"))
    if step not in kept:
        known = ", ".join(map(str, kept)) or "none"
        raise InputError(f"{run}: no student of step {step} was kept; expected one of {known}")
    student = build_recipe_network(recipe, recipe.student, _classes(folder))
    _fill(student, kept[step])
    return student


def _recipe(run: Path) -> Recipe:
    file = RunDirectory(run).recipe
    if not file.is_file():
        raise InputError(f"{run}: there is no run; expected recipe.yaml in it")
    return Recipe.load(file)


def _best(folder: RunDirectory, stage: str) -> Path:
    path = folder.stage(stage) / "best.safetensors"
    if not path.exists():
        raise InputError(
            f"{folder.path}: stage {stage} has no checkpoint yet; expected a run whose "
            "student was validated at least once"
        )
    return path


def _classes(folder: RunDirectory) -> int:
    """How many classes the run's networks tell apart."""
    path = _best(folder, "autoencoder")
    read_progress(path)
    with safe_open(path, framework="pt") as file:
        foreground: int = file.get_slice(_FOREGROUND).get_shape()[0]
    return foreground + 1


def _fill(module: nn.Module, path: Path) -> None:
    load_checkpoint(path, module)
    module.eval()
