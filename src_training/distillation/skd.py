"""Structured knowledge distillation, pair-wise: Liu et al., CVPR 2019, arXiv 1903.04197."""

from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor

from src_training.alignment.contrastive_graphs import unit_vectors
from src_training.distillation.base import Distillation, ForwardOutputs, MethodOptions, Weight

MOST_NODES = 16
"""A side: larger features are pooled, so that a graph takes 256 KiB a sample at most."""


class SKDOptions(MethodOptions):
    """Options of ``skd``.

    Attributes
    ----------
    pairwise
        Weight of the distance between pair-wise similarities.
    """

    method: Literal["skd"] = "skd"
    pairwise: Weight = 1.0


class SKD(Distillation[SKDOptions]):
    """Teach how much any two places of the deepest common features are alike (eq. 2)."""

    taps: ClassVar[tuple[str, ...]] = ("encoder_eighth",)
    loss_names: ClassVar[tuple[str, ...]] = ("pairwise",)

    def losses(
        self, teacher: ForwardOutputs, student: ForwardOutputs, mask: Tensor
    ) -> dict[str, Tensor]:
        """``pairwise``: mean squared difference of the similarities, from 0 to 4."""
        theirs, ours = teacher.taps["encoder_eighth"], student.taps["encoder_eighth"]
        side = nodes_a_side(theirs)
        return {"pairwise": F.mse_loss(similarity(ours, side), similarity(theirs, side))}


def nodes_a_side(feature: Tensor) -> tuple[int, int]:
    """Rows and columns of nodes for a feature (B, C, h, w).

    A node is the mean of 2 x 2 pixels (beta of the paper), or of more where
    that would be beyond `MOST_NODES` (*reconstruction*).
    """
    rows, columns = (min(MOST_NODES, -(-length // 2)) for length in feature.shape[-2:])
    return rows, columns


def similarity(feature: Tensor, side: tuple[int, int]) -> Tensor:
    """Cosines (B, n, n) between the n = rows · columns nodes of a feature (B, C, h, w)."""
    nodes = unit_vectors(F.adaptive_avg_pool2d(feature, side).flatten(2), dim=1)
    return nodes.mT @ nodes
