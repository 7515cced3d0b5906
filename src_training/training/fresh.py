"""The networks that a recipe names, with fresh weights."""

import torch

from src_training.alignment.autoencoder import SemanticAutoencoder
from src_training.alignment.msan import AlignmentNetwork
from src_training.networks import SegmentationNetwork, build_network
from src_training.recipe import NetworkRecipe, Recipe


def fresh_network(recipe: Recipe, network: NetworkRecipe, classes: int) -> SegmentationNetwork:
    """A teacher or a student for so many classes, the background among them."""
    built = build_network(
        network.name, recipe.preprocessing.in_channels, classes, **network.options
    )
    # A quarter to a half faster for the students, of no account for the teacher.
    built.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
    return built


def fresh_autoencoder(recipe: Recipe, classes: int) -> SemanticAutoencoder:
    """P-SAE for the foreground among so many classes."""
    width = int(recipe.teacher.options.get("width", 64))
    return SemanticAutoencoder(classes - 1, recipe.patch, width, recipe.latent, recipe.hidden)


def fresh_alignment(recipe: Recipe, network: SegmentationNetwork) -> AlignmentNetwork:
    """A TAN or a SAN for a network."""
    side = recipe.patch // network.stride
    return AlignmentNetwork(network.bottleneck_channels, (side, side), recipe.latent, recipe.hidden)
