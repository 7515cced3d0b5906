"""The weights that a student starts from, where a recipe names a model."""

from src_training.config.recipe import Recipe
from src_training.errors import InputError
from src_training.inference.model_file import SegmentationModel, load_model
from src_training.runs.directory import RunDirectory


def pretrained_student(
    recipe: Recipe, folder: RunDirectory, classes: tuple[str, ...]
) -> SegmentationModel | None:
    """The model of `start_from`, or the run's own copy of it; None where there is none.

    Raises
    ------
    InputError
        If it cannot be read or is of another kind than the student.
    """
    if recipe.start_from is None:
        return None
    model = load_model(folder.start if folder.start.exists() else recipe.start_from)
    card, student = model.card, recipe.student
    for what, found, expected in (
        ("network", card.architecture, student.name),
        ("options", card.options, student.options),
        ("number of channels", card.in_channels, recipe.preprocessing.in_channels),
        ("number of classes", len(card.classes), len(classes)),
    ):
        if found != expected:
            raise InputError(
                f"start_from is {recipe.start_from}, whose {what} is {found}; "
                f"expected {expected} as the student's"
            )
    return model
