"""Cross-layer correlation: Zou et al., "CoCo DistillNet", BIBM 2021, arXiv 2108.12173."""

from itertools import combinations
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from src_training.distillation.base import Distillation, ForwardOutputs, MethodOptions, Weight
from src_training.distillation.skd import node_grid, pairwise_similarity


class CoCoOptions(MethodOptions):
    """Options of ``coco``.

    Attributes
    ----------
    correlation
        Weight of the distance between cross-layer correlations (*reconstruction*).
    """

    method: Literal["coco"] = "coco"
    correlation: Weight = 1.0


class CoCo(Distillation[CoCoOptions]):
    """The student learns how the spatial similarities of different layers correlate.

    The abstract names what is modelled: correlations, between layers, of
    channel-mixed spatial similarity. The layers, the pooling to one grid of
    nodes and the product are our *reconstruction*. The paper's adversarial
    part and paraphraser are those of Graph Flow, which builds on it.
    """

    taps: ClassVar[tuple[str, ...]] = ("encoder_quarter", "encoder_eighth", "decoder_quarter")
    loss_names: ClassVar[tuple[str, ...]] = ("correlation",)

    def losses(
        self, teacher: ForwardOutputs, student: ForwardOutputs, mask: Tensor
    ) -> dict[str, Tensor]:
        """``correlation``: mean squared difference, mean over pairs of layers."""
        grid = node_grid(teacher.taps["encoder_eighth"])
        target, own = (
            [pairwise_similarity(each.taps[tap], grid) for tap in self.taps]
            for each in (teacher, student)
        )
        distances = [
            F.mse_loss(layer_correlation(own[a], own[b]), layer_correlation(target[a], target[b]))
            for a, b in combinations(range(len(self.taps)), 2)
        ]
        return {"correlation": torch.stack(distances).mean()}


def layer_correlation(first: Tensor, second: Tensor) -> Tensor:
    """S_a S_b / n of the similarities S of two layers, each (B, n, n) (*reconstruction*).

    Examples
    --------
    >>> layer_correlation(torch.eye(2)[None], torch.ones(1, 2, 2))
    tensor([[[0.5000, 0.5000],
             [0.5000, 0.5000]]])
    """
    return first @ second / first.shape[-1]
