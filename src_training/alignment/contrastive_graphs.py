"""Contrastive graphs between the semantic vectors of views (GKD, arXiv 2207.12995)."""

import torch
import torch.nn.functional as F
from torch import Tensor

_SMALLEST_LENGTH = 1e-4


def unit_vectors(vectors: Tensor, dim: int = -1) -> Tensor:
    """Normalise vectors along a dimension to unit length.

    The gradient grows as the vector becomes shorter. Vectors shorter than 1e-4
    are divided by 1e-4 instead, so that the gradient for a vector of zeros does
    not overflow in half precision.

    Examples
    --------
    >>> import torch
    >>> unit_vectors(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    tensor([[0.6000, 0.8000],
            [0.0000, 0.0000]])
    """
    return F.normalize(vectors, dim=dim, eps=_SMALLEST_LENGTH)


def star_graph(vectors: Tensor) -> Tensor:
    """Edges a_k = cos(z_0, z_k) between an anchor and its views.

    Parameters
    ----------
    vectors
        (B, 1 + K, d), the anchor's first.

    Returns
    -------
    Tensor
        (B, K), in [-1, 1].

    Examples
    --------
    >>> import torch
    >>> star_graph(torch.tensor([[[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]]]))
    tensor([[1., 0.]])
    """
    unit = unit_vectors(vectors)
    return torch.einsum("bd,bkd->bk", unit[:, 0], unit[:, 1:])


def complete_graph(vectors: Tensor) -> Tensor:
    """Edges A_jk = cos(z_j, z_k) between all nodes of each graph.

    Parameters
    ----------
    vectors
        (G, N, d): G graphs of N nodes.

    Returns
    -------
    Tensor
        (G, N, N), symmetric, in [-1, 1].

    Examples
    --------
    >>> import torch
    >>> complete_graph(torch.tensor([[[1.0, 0.0], [0.0, 2.0], [0.0, 1.0]]]))
    tensor([[[1., 0., 0.],
             [0., 1., 1.],
             [0., 1., 1.]]])
    """
    unit = unit_vectors(vectors)
    return unit @ unit.transpose(-1, -2)


def center(vectors: Tensor) -> Tensor:
    """Subtract from vectors (B, 1 + K, d) their mean over batch and views (*reconstruction*).

    A component that is common to all vectors moves every cosine close to 1, so
    that the edges of any two networks hardly differ.

    Examples
    --------
    >>> import torch
    >>> center(torch.tensor([[[1.0, 5.0], [3.0, 5.0]]]))
    tensor([[[-1.,  0.],
             [ 1.,  0.]]])
    """
    return vectors - vectors.mean((0, 1), keepdim=True)
