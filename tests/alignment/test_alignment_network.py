"""Encoder and header of an alignment network: shapes, formulas, errors."""

import math

import numpy as np
import pytest
import torch

from src_training.alignment.alignment_network import (
    AlignmentNetwork,
    SemanticEncoder,
    SemanticHeader,
)

SHAPES = pytest.mark.parametrize(
    ("channels", "grid", "latent"), [(8, (4, 4), 8), (6, (4, 2), 8), (1280, (1, 1), 16)]
)


@SHAPES
def test_a_vector_becomes_a_bottleneck_of_the_same_shape(channels, grid, latent):
    network = AlignmentNetwork(channels, grid, latent, hidden=3)
    bottleneck = torch.rand(2, channels, *grid)
    vector = network.encoder(bottleneck)
    assert vector.shape == (2, latent)
    assert network.header(vector).shape == network(bottleneck).shape == bottleneck.shape


@SHAPES
def test_the_header_given_its_own_vector_is_the_reconstruction(channels, grid, latent):
    network = AlignmentNetwork(channels, grid, latent, hidden=3)
    bottleneck = torch.rand(2, channels, *grid)
    assert torch.equal(network.header(network.encoder(bottleneck)), network(bottleneck))


def test_headers_can_be_exchanged_between_networks():
    teacher = AlignmentNetwork(16, (4, 4), 8, 3)
    student = AlignmentNetwork(6, (2, 2), 8, 3)
    assert teacher.header(student.encoder(torch.rand(1, 6, 2, 2))).shape == (1, 16, 4, 4)
    assert student.header(teacher.encoder(torch.rand(1, 16, 4, 4))).shape == (1, 6, 2, 2)


def test_each_entry_is_the_same_perceptron_of_its_own_channel():
    encoder = SemanticEncoder(5, (2, 3), latent=5, hidden=4)
    bottleneck = torch.rand(1, 5, 2, 3)
    order = torch.tensor([3, 1, 4, 0, 2])
    expected = encoder(bottleneck)[:, order]
    assert torch.allclose(encoder(bottleneck[:, order]), expected, atol=1e-6)
    changed = bottleneck.clone()
    changed[:, 2] += 1
    moved = (encoder(changed) != encoder(bottleneck))[0]
    assert moved.tolist() == [False, False, True, False, False]


def test_the_header_maps_equal_entries_to_equal_channels():
    header = SemanticHeader(3, (2, 2), latent=3, hidden=4)
    maps = header(torch.tensor([[0.5, -1.0, 0.5]]))[0]
    assert torch.equal(maps[0], maps[2])
    assert not torch.equal(maps[0], maps[1])


def test_the_encoder_is_linear_gelu_linear_over_the_grid():
    encoder = SemanticEncoder(2, (2, 2), latent=2, hidden=3).double()
    bottleneck = torch.randn(1, 2, 2, 2, dtype=torch.float64)
    first, _, second = encoder.perceptron
    w1, b1, w2, b2 = (p.detach().numpy() for p in (*first.parameters(), *second.parameters()))
    erf = np.vectorize(math.erf)
    for channel in range(2):
        hidden = w1 @ bottleneck[0, channel].numpy().ravel() + b1
        gelu = hidden * 0.5 * (1 + erf(hidden / np.sqrt(2)))
        expected = (w2 @ gelu + b2).item()
        assert encoder(bottleneck)[0, channel].item() == pytest.approx(expected, rel=1e-12)


def test_a_bottleneck_of_another_grid_is_refused_with_both_grids():
    encoder = SemanticEncoder(4, (4, 4), latent=4)
    with pytest.raises(ValueError, match=r"\(2, 4\); expected \(4, 4\)"):
        encoder(torch.rand(1, 4, 2, 4))
