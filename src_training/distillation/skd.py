"""Structured knowledge distillation, pair-wise: Liu et al., CVPR 2019, arXiv 1903.04197."""

from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor

from src_training.alignment.contrastive_graphs import unit_vectors
from src_training.distillation.base import Distillation, ForwardOutputs, MethodOptions, Weight
from src_training.losses.regions import resize

MAX_NODES = 16
"""Largest number of nodes along a side; bounds a graph to 256 KiB a sample."""


class SKDOptions(MethodOptions):
    """Options of ``skd``.

    Attributes
    ----------
    pairwise
        Weight of the distance between pair-wise similarities.
    form
        ``paper``: nodes are means of 2 x 2 pixels. ``code``, as in the public
        code: 2 x 2 nodes for the whole feature, each the maximum over its pixels,
        and no gradient through the norm that divides a node.
    """

    method: Literal["skd"] = "skd"
    pairwise: Weight = 1.0
    form: Literal["paper", "code"] = "paper"


class SKD(Distillation[SKDOptions]):
    """The student learns the similarity of any two nodes of the deepest common feature (eq. 2).

    The public code (irfanICMLL/structure_knowledge_distillation) differs; see `SKDOptions.form`.
    The pixel-wise and holistic parts of the paper and the public code's weight of 0.5 are not
    implemented.
    """

    taps: ClassVar[tuple[str, ...]] = ("encoder_eighth",)
    loss_names: ClassVar[tuple[str, ...]] = ("pairwise",)

    def losses(
        self, teacher: ForwardOutputs, student: ForwardOutputs, mask: Tensor
    ) -> dict[str, Tensor]:
        """Loss ``pairwise``: mean squared difference of the similarities, from 0 to 4."""
        target, feature = teacher.taps["encoder_eighth"], student.taps["encoder_eighth"]
        if self.options.form == "code":
            # Resize the student's feature, so that both networks have the same grid of nodes.
            feature = resize(feature, target.shape[-2:])
            kernel = [max(1, length // 2) for length in target.shape[-2:]]
            similarity, expected = (
                detached_similarity(F.max_pool2d(x, kernel, ceil_mode=True).flatten(2))
                for x in (feature, target)
            )
        else:
            grid = node_grid(target)
            similarity, expected = (pairwise_similarity(x, grid) for x in (feature, target))
        return {"pairwise": F.mse_loss(similarity, expected)}


def node_grid(feature: Tensor) -> tuple[int, int]:
    """Rows and columns of nodes for a feature (B, C, h, w).

    A node is the mean of 2 x 2 pixels (beta of the paper), or of more pixels
    where a side would have more than `MAX_NODES` nodes (*reconstruction*).

    Examples
    --------
    >>> import torch
    >>> node_grid(torch.zeros(1, 4, 16, 64))
    (8, 16)
    """
    rows, columns = (min(MAX_NODES, -(-length // 2)) for length in feature.shape[-2:])
    return rows, columns


def pairwise_similarity(feature: Tensor, grid: tuple[int, int]) -> Tensor:
    """Cosines (B, n, n) between the n = rows · columns nodes of a feature (B, C, h, w).

    Examples
    --------
    >>> import torch
    >>> feature = torch.tensor([[[[1.0, 0.0]], [[0.0, 2.0]]]])  # two pixels at right angles
    >>> pairwise_similarity(feature, (1, 2))
    tensor([[[1., 0.],
             [0., 1.]]])
    """
    nodes = unit_vectors(F.adaptive_avg_pool2d(feature, grid).flatten(2), dim=1)
    return nodes.mT @ nodes


def detached_similarity(nodes: Tensor) -> Tensor:
    """Cosines (B, n, n) of nodes (B, C, n), without a gradient through their norms."""
    unit: Tensor = nodes / (nodes.norm(dim=1, keepdim=True).detach() + 1e-8)
    similarity: Tensor = unit.mT @ unit
    return similarity
