"""Cosines between the vectors of views, against loops."""

import numpy as np
import pytest
import torch

from src_training.alignment.contrastive_graphs import (
    center,
    complete_graph,
    star_graph,
    unit_vectors,
)

VECTORS = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_star_graph_compares_the_anchor_with_each_view():
    edges = star_graph(VECTORS)
    assert edges.shape == (2, 3)
    for sample, vectors in enumerate(VECTORS.numpy()):
        expected = [cosine(vectors[0], view) for view in vectors[1:]]
        assert edges[sample].tolist() == pytest.approx(expected, rel=1e-12)


def test_complete_graph_compares_every_two_nodes():
    edges = complete_graph(VECTORS)
    for sample, j, k in np.ndindex(2, 4, 4):
        expected = cosine(VECTORS[sample, j].numpy(), VECTORS[sample, k].numpy())
        assert edges[sample, j, k].item() == pytest.approx(expected, abs=1e-12)


def test_graphs_do_not_depend_on_the_length_of_vectors():
    lengths = torch.linspace(0.5, 9, 8, dtype=torch.float64).view(2, 4, 1)
    torch.testing.assert_close(star_graph(lengths * VECTORS), star_graph(VECTORS))
    torch.testing.assert_close(complete_graph(lengths * VECTORS), complete_graph(VECTORS))


def test_centered_vectors_have_a_mean_of_zero():
    shifted = VECTORS + torch.arange(6)
    assert center(shifted).mean((0, 1)).abs().max() < 1e-12
    torch.testing.assert_close(center(shifted), center(VECTORS))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_the_gradient_of_a_zero_vector_is_finite(dtype):
    vectors = torch.zeros(1, 3, dtype=dtype, requires_grad=True)
    unit_vectors(vectors).sum().backward()
    assert vectors.grad.isfinite().all()


def test_unit_vectors_have_length_one_along_any_dimension():
    assert torch.allclose(unit_vectors(VECTORS, 1).norm(dim=1), torch.ones(()).double())
