"""The networks that a recipe names, with fresh weights."""

import torch

from src_training.alignment.alignment_network import AlignmentNetwork
from src_training.alignment.semantic_autoencoder import SemanticAutoencoder
from src_training.config.recipe import NetworkRecipe, Recipe
from src_training.distillation import build_distillations
from src_training.errors import InputError
from src_training.networks import SegmentationNetwork, build_network, published_width

_WIDTH = 64
"""Of P-SAE, beside a teacher as wide as published."""


def build_recipe_network(
    recipe: Recipe, network: NetworkRecipe, classes: int
) -> SegmentationNetwork:
    """A teacher or a student for so many classes, the background among them.

    Raises
    ------
    InputError
        As `build_network`.
    """
    built = build_network(
        network.name, recipe.preprocessing.in_channels, classes, **network.options
    )
    # A quarter to a half faster for the students, of no account for the teacher.
    built.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
    return built


def build_autoencoder(recipe: Recipe, classes: int) -> SemanticAutoencoder:
    """P-SAE for the foreground among so many classes, widened as the recipe's teacher."""
    published = published_width(recipe.teacher.name)
    width = float(recipe.teacher.options.get("width", published)) / published
    from_image = recipe.alignment.prior == "image"
    return SemanticAutoencoder(
        classes - 1,
        recipe.patch,
        max(1, round(_WIDTH * width)),
        recipe.latent,
        recipe.hidden,
        recipe.preprocessing.in_channels if from_image else None,
    )


def build_alignment_network(recipe: Recipe, network: SegmentationNetwork) -> AlignmentNetwork:
    """A TAN or a SAN for a network, on the grid that it makes of a training patch."""
    side = recipe.patch // network.stride
    return AlignmentNetwork(network.bottleneck_channels, (side, side), recipe.latent, recipe.hidden)


def refuse_impossible_networks(recipe: Recipe, classes: int) -> None:
    """Build all of it once, where it takes neither time nor memory: not after hours.

    Raises
    ------
    InputError
        If there is no such network, it cannot learn from batches this small,
        or a distillation cannot teach this student.
    """
    with torch.device("meta"):
        teacher, student = (
            build_recipe_network(recipe, network, classes)
            for network in (recipe.teacher, recipe.student)
        )
        build_distillations(recipe.distillation, teacher, student)
        build_autoencoder(recipe, classes)
    taught = {"teacher": teacher, "student": student, "alone": student, "distil": student}
    for name, network in taught.items():
        plan = recipe.plan(name)
        if plan.steps and plan.batch == 1 and network.stride == recipe.patch:
            field = "distil" if name == "alone" else name
            batch = getattr(recipe.stages, field).batch
            raise InputError(
                f"stages.{field}.batch is {batch}; expected at least {batch + 1}, as its "
                f"network makes a single value of a patch of {recipe.patch} pixels"
            )
