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

    The paper's abstract describes correlations, between layers, of channel-mixed
    spatial similarity. The layers, the pooling to one grid of nodes and the
    product are our *reconstruction*. The paper's adversarial part and its
    paraphraser are implemented with Graph Flow, which builds on this paper.
    """

    taps: ClassVar[tuple[str, ...]] = ("encoder_quarter", "encoder_eighth", "decoder_quarter")
    loss_names: ClassVar[tuple[str, ...]] = ("correlation",)

    def losses(
        self, teacher: ForwardOutputs, student: ForwardOutputs, mask: Tensor
    ) -> dict[str, Tensor]:
        """Loss ``correlation``: mean squared difference, mean over pairs of layers."""
        grid = node_grid(teacher.taps["encoder_eighth"])
        targets, similarities = (
            [pairwise_similarity(outputs.taps[tap], grid) for tap in self.taps]
            for outputs in (teacher, student)
        )
        distances = [
            F.mse_loss(layer_correlation(*student_pair), layer_correlation(*teacher_pair))
            for student_pair, teacher_pair in zip(
                combinations(similarities, 2), combinations(targets, 2), strict=True
            )
        ]
        return {"correlation": torch.stack(distances).mean()}


def layer_correlation(first: Tensor, second: Tensor) -> Tensor:
    """S_a S_b / n for the similarities S of two layers, each (B, n, n) (*reconstruction*).

    Examples
    --------
    >>> layer_correlation(torch.eye(2)[None], torch.ones(1, 2, 2))
    tensor([[[0.5000, 0.5000],
             [0.5000, 0.5000]]])
    """
    return first @ second / first.shape[-1]
