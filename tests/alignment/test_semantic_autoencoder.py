"""P-SAE: shapes, and the inputs that its vectors depend on."""

import pytest
import torch
from torch import nn

from src_training.alignment.semantic_autoencoder import SemanticAutoencoder


def autoencoder(foreground=2):
    torch.manual_seed(0)
    return SemanticAutoencoder(foreground, patch=32, width=2, latent=8, hidden=4).eval()


@pytest.mark.parametrize("foreground", [1, 3])
def test_regions_bring_the_mask_back(foreground):
    mask = torch.randint(foreground + 1, (2, 5, 7))
    regions = autoencoder(foreground).regions(mask)
    assert regions.shape == (2, foreground, 5, 7) and regions.dtype == torch.float32
    background = 1 - regions.sum(1, keepdim=True)
    assert torch.equal(torch.cat([background, regions], 1).argmax(1), mask)


def test_every_part_has_the_published_shape():
    network = autoencoder()
    regions = torch.rand(3, 2, 32, 32)
    bottleneck = network.encode(regions)
    assert bottleneck.shape == (3, 16, 4, 4)
    assert network.decode(bottleneck).shape == (3, 2, 32, 32)
    assert network.vectors(torch.randint(3, (3, 32, 32))).shape == (3, 8)
    assert network.foreground == 2


def test_the_vector_of_a_mask_is_that_of_its_regions():
    network = autoencoder()
    mask = torch.randint(3, (1, 32, 32))
    expected = network.alignment.encoder(network.encode(network.regions(mask)))
    assert torch.equal(network.vectors(mask), expected)


def test_different_masks_have_different_vectors():
    network = autoencoder(1)
    mask = torch.zeros(2, 32, 32, dtype=torch.int64)
    mask[1, 8:24, 8:24] = 1
    first, second = network.vectors(mask)
    assert not torch.equal(first, second)


def test_the_decoder_is_transposed_convolutions_without_skips():
    kinds = [type(layer) for layer in autoencoder().decoder]
    assert kinds == [nn.ConvTranspose2d] * 3 + [nn.Dropout2d, nn.Conv2d]


def test_the_published_bottleneck_is_512_by_16_by_16():
    with torch.device("meta"):
        network = SemanticAutoencoder(1, patch=128)
        assert network.encode(torch.empty(1, 1, 128, 128)).shape == (1, 512, 16, 16)
    assert network.alignment.encoder.grid == (16, 16)


def test_an_autoencoder_of_images_ignores_the_mask():
    torch.manual_seed(0)
    network = SemanticAutoencoder(2, 32, width=2, latent=8, hidden=4, image_channels=3).eval()
    masks, images = torch.randint(3, (2, 2, 32, 32)), torch.rand(2, 2, 3, 32, 32)
    vectors = network.vectors(masks[0], images[0])
    assert vectors.shape == (2, 8)
    assert torch.equal(vectors, network.vectors(masks[1], images[0]))
    assert not torch.equal(vectors, network.vectors(masks[0], images[1]))
    assert network.decode(network.encode(images[0])).shape == (2, 2, 32, 32)
