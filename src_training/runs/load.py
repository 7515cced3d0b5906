"""Loading the networks of a run from its checkpoints, without reading its images."""

from pathlib import Path

from src_training.config.recipe import Recipe
from src_training.config.stages import stages_of
from src_training.errors import InputError
from src_training.explore.teacher_student import TeacherStudentPair
from src_training.inference.model_file import read_card
from src_training.networks import SegmentationNetwork
from src_training.runs.data import load_domain
from src_training.runs.directory import RunDirectory
from src_training.runs.events import RunStarted, iter_events
from src_training.seeds import drawing
from src_training.training.builders import Networks, build_segmentation_network, build_stage
from src_training.training.checkpoint import load_checkpoint, snapshot_files

_REFITTED = ("san_baseline", "san_distilled")
"""Stages whose alignment networks are only used for the report."""


def load_networks(run: Path) -> Networks:
    """Load the networks of a run, each from its best checkpoint so far.

    They are on the CPU and in evaluation mode.

    Raises
    ------
    InputError
        If the directory contains no run, a stage has not been validated
        yet, or a checkpoint is broken; the message names it.
    """
    directory = RunDirectory(Path(run))
    return _load(directory, *_recipe_and_classes(directory))


def _load(directory: RunDirectory, recipe: Recipe, classes: int) -> Networks:
    # Initialising the networks must not change the state of torch's global generator.
    with drawing(recipe.seed):
        networks = Networks.build(recipe, classes)
    for spec in stages_of(recipe):
        path = directory.stage(spec.name) / "best.safetensors"
        if not path.exists() and spec.name in _REFITTED:
            # Missing in runs that have not finished and in those of former versions: use the
            # student's alignment network instead.
            path = directory.stage("san") / "best.safetensors"
        if not path.exists():
            raise InputError(
                f"{directory.path}: stage {spec.name} has no checkpoint yet; expected a run whose "
                "student was validated at least once"
            )
        load_checkpoint(path, build_stage(spec, networks).trained)
    return networks.eval()


def load_pair(run: Path) -> TeacherStudentPair:
    """Load the teacher and the distilled student of a run; raises as `load_networks`."""
    directory = RunDirectory(Path(run))
    recipe, classes = _recipe_and_classes(directory)
    if not recipe.distils:
        raise InputError(
            f"{run}: its student was trained alone; expected a run with a teacher to compare with"
        )
    if recipe.teacher.outputs_only:
        raise InputError(
            f"{run}: of its teacher, of kind {recipe.teacher.kind}, the outputs alone are known; "
            "expected a run whose teacher is a network of this package"
        )
    networks = _load(directory, recipe, classes)
    return TeacherStudentPair(
        teacher=networks.teacher,
        tan=networks.tan,
        student=networks.distilled,
        san=networks.distilled_san,
        preprocessing=recipe.preprocessing,
        augmentation=recipe.augmentation,
        patch=recipe.patch,
        centered=recipe.centered_vectors,
    )


def snapshots(run: Path) -> list[int]:
    """Return the steps of ``distil`` with snapshots, ascending; empty without a run."""
    return list(snapshot_files(RunDirectory(Path(run)).stage("distil")))


def load_snapshot(run: Path, step: int) -> SegmentationNetwork:
    """Load the distilled student after a number of steps, on the CPU and in evaluation mode.

    Raises
    ------
    InputError
        If the directory contains no run, or the snapshot of that step is missing
        or broken.
    """
    directory = RunDirectory(Path(run))
    files = snapshot_files(directory.stage("distil"))
    if step not in files:
        known = ", ".join(map(str, files)) or "none"
        raise InputError(f"{run}: there is no snapshot of step {step}; expected one of {known}")
    recipe, classes = _recipe_and_classes(directory)
    with drawing(recipe.seed):
        student = build_segmentation_network(recipe, recipe.student, classes)
    load_checkpoint(files[step], student)
    return student.eval()


def _recipe_and_classes(directory: RunDirectory) -> tuple[Recipe, int]:
    """Read the recipe of a run and the number of classes of its networks."""
    if not directory.recipe.is_file():
        raise InputError(f"{directory.path}: there is no run; expected recipe.yaml in it")
    recipe = Recipe.load(directory.recipe)
    return recipe, _class_count(directory, recipe)


def _class_count(directory: RunDirectory, recipe: Recipe) -> int:
    """Number of classes of the networks of a run, background included."""
    for event in iter_events(directory.events):
        if isinstance(event, RunStarted) and event.classes:
            return len(event.classes)
    # Events of former versions do not contain the classes.
    if directory.model.exists():
        return len(read_card(directory.model).classes)
    return len(load_domain(recipe.sources[0], masks_required=True).classes)
