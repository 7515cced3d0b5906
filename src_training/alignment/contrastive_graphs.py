"""Contrastive graphs (GKD, arXiv 2207.12995): what views of a sample are to one another."""

import torch
import torch.nn.functional as F
from torch import Tensor

_SHORTEST = 1e-4
"""Of a vector that has a direction."""


def unit_vectors(vectors: Tensor, dim: int = -1) -> Tensor:
    """Vectors along a dimension, divided by their length.

    The shorter a vector, the larger the gradient of its direction. One that is
    shorter than 1e-4 stays shorter than 1: with a vector of zeros, no gradient
    leaves the range of half precision.
    """
    return F.normalize(vectors, dim=dim, eps=_SHORTEST)


def star_graph(vectors: Tensor) -> Tensor:
    """Edges a_k = cos(z_0, z_k) between anchor and views: (B, 1 + K, d) -> (B, K)."""
    unit = unit_vectors(vectors)
    return torch.einsum("bd,bkd->bk", unit[:, 0], unit[:, 1:])


def complete_graph(vectors: Tensor) -> Tensor:
    """Edges A_jk = cos(z_j, z_k) between all nodes: (G, N, d) -> (G, N, N)."""
    unit = unit_vectors(vectors)
    return unit @ unit.transpose(-1, -2)


def centred(vectors: Tensor) -> Tensor:
    """Vectors (B, 1 + K, d) without their mean over the batch (*reconstruction*).

    What all vectors share puts every raw cosine near 1, where the edges of
    any two networks agree already.
    """
    return vectors - vectors.mean((0, 1), keepdim=True)
