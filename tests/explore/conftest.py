"""A model with a semantic encoder and an augmentation, and a matching autoencoder."""

import pytest
import torch

from src_training.alignment.semantic_autoencoder import SemanticAutoencoder
from src_training.data.augmentation import Augmentation


@pytest.fixture
def model(tiny_model):
    """Model with patches of 32 pixels and vectors of three components."""
    made = tiny_model()
    made.card = made.card.model_copy(update={"augmentation": Augmentation()})
    return made


@pytest.fixture
def autoencoder():
    torch.manual_seed(5)
    return SemanticAutoencoder(1, patch=32, width=2, latent=3, hidden=4).eval()
