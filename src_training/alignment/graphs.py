"""Contrastive graphs (GKD, arXiv 2207.12995): what views of a sample are to one another."""

import torch
import torch.nn.functional as F
from torch import Tensor


def star_graph(vectors: Tensor) -> Tensor:
    """Edges a_k = cos(z_0, z_k) between anchor and views: (B, 1 + K, d) -> (B, K)."""
    unit = F.normalize(vectors, dim=-1)
    return torch.einsum("bd,bkd->bk", unit[:, 0], unit[:, 1:])


def complete_graph(vectors: Tensor) -> Tensor:
    """Edges A_jk = cos(z_j, z_k) between all nodes: (G, N, d) -> (G, N, N)."""
    unit = F.normalize(vectors, dim=-1)
    return unit @ unit.transpose(-1, -2)


def centred(vectors: Tensor) -> Tensor:
    """Vectors (B, 1 + K, d) without their mean over the batch (*reconstruction*).

    What all vectors share puts every raw cosine near 1, where the edges of
    any two networks agree already.
    """
    return vectors - vectors.mean((0, 1), keepdim=True)
