"""Attention transfer: Zagoruyko and Komodakis, ICLR 2017, arXiv 1612.03928."""

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from src_training.distillation.base import Distillation, ForwardOutputs, MethodOptions, Weight
from src_training.losses.regions import resize


class AttentionTransferOptions(MethodOptions):
    """Options of ``attention``.

    Attributes
    ----------
    attention
        Weight of the distance between attention maps; 1000 in the published code.
    """

    method: Literal["attention"] = "attention"
    attention: Weight = 1000.0


class AttentionTransfer(Distillation[AttentionTransferOptions]):
    """The student learns where the teacher's features are strong.

    Activation-based attention; the choice of taps is our *reconstruction*.
    """

    taps: ClassVar[tuple[str, ...]] = ("encoder_quarter", "encoder_eighth", "decoder_quarter")
    loss_names: ClassVar[tuple[str, ...]] = ("attention",)

    def losses(
        self, teacher: ForwardOutputs, student: ForwardOutputs, mask: Tensor
    ) -> dict[str, Tensor]:
        """Loss ``attention``: mean squared difference of attention maps, summed over taps."""
        distances = []
        for tap in self.taps:
            target = teacher.taps[tap]
            feature = resize(student.taps[tap], target.shape[-2:])
            distances.append(F.mse_loss(attention_map(feature), attention_map(target)))
        return {"attention": torch.stack(distances).sum()}


def attention_map(feature: Tensor) -> Tensor:
    """Σ_c F_c² of a feature (B, C, h, w), flattened to (B, h w), of unit length (eq. 2).

    Examples
    --------
    >>> attention_map(torch.tensor([[[[1.0, 1.0]], [[1.0, 0.0]]]]))
    tensor([[0.8944, 0.4472]])
    """
    return F.normalize(feature.square().sum(1).flatten(1))
