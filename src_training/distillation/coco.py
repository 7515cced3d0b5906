"""Cross-layer correlation: Zou et al., "CoCo DistillNet", BIBM 2021, arXiv 2108.12173."""

from itertools import combinations
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from src_training.distillation.base import Distillation, ForwardOutputs, MethodOptions, Weight
from src_training.distillation.skd import nodes_a_side, similarity


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
    """Teach how the spatial similarities of different layers go together.

    The abstract tells what is modelled: correlations, between layers, of
    channel-mixed spatial similarity. The layers, the pooling to one grid of
    nodes and the product below are our *reconstruction*; the paper's
    adversarial part and paraphraser are those of Graph Flow, which follows it.
    """

    taps: ClassVar[tuple[str, ...]] = ("encoder_quarter", "encoder_eighth", "decoder_quarter")
    loss_names: ClassVar[tuple[str, ...]] = ("correlation",)

    def losses(
        self, teacher: ForwardOutputs, student: ForwardOutputs, mask: Tensor
    ) -> dict[str, Tensor]:
        """``correlation``: mean squared difference, mean over pairs of layers."""
        side = nodes_a_side(teacher.taps["encoder_eighth"])
        theirs, ours = (
            [similarity(each.taps[tap], side) for tap in self.taps] for each in (teacher, student)
        )
        distances = [
            F.mse_loss(correlation(ours[a], ours[b]), correlation(theirs[a], theirs[b]))
            for a, b in combinations(range(len(self.taps)), 2)
        ]
        return {"correlation": torch.stack(distances).mean()}


def correlation(first: Tensor, second: Tensor) -> Tensor:
    """S_a S_b / n of two layers' similarities (B, n, n)."""
    return first @ second / first.shape[-1]
