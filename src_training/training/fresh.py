"""The networks that a recipe names, with fresh weights."""

import torch

from src_training.alignment.autoencoder import SemanticAutoencoder
from src_training.alignment.msan import AlignmentNetwork
from src_training.networks import SegmentationNetwork, build_network
from src_training.recipe import NetworkRecipe, Recipe

_WIDTH = 64
"""Of a teacher as published; students say by what they multiply their channels."""


def fresh_network(recipe: Recipe, network: NetworkRecipe, classes: int) -> SegmentationNetwork:
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


def fresh_autoencoder(recipe: Recipe, classes: int) -> SemanticAutoencoder:
    """P-SAE for the foreground among so many classes, as wide as the recipe's teacher."""
    width = recipe.teacher.options.get("width", _WIDTH)
    if isinstance(width, float):
        width = max(1, round(_WIDTH * width))
    from_image = recipe.alignment.prior == "image"
    return SemanticAutoencoder(
        classes - 1,
        recipe.patch,
        int(width),
        recipe.latent,
        recipe.hidden,
        recipe.preprocessing.in_channels if from_image else None,
    )


def fresh_alignment(recipe: Recipe, network: SegmentationNetwork) -> AlignmentNetwork:
    """A TAN or a SAN for a network, on the grid that it makes of a training patch."""
    side = recipe.patch // network.stride
    return AlignmentNetwork(network.bottleneck_channels, (side, side), recipe.latent, recipe.hidden)
