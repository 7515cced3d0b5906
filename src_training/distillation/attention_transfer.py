"""Attention transfer: Zagoruyko and Komodakis, ICLR 2017, arXiv 1612.03928."""

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from src_training.distillation.base import Distillation, ForwardOutputs, MethodOptions, Weight
from src_training.losses.regions import resized


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
    """Teach where the teacher's features are strong.

    Activation-based, with the weight of the published code; which taps is our
    *reconstruction*.
    """

    taps: ClassVar[tuple[str, ...]] = ("encoder_quarter", "encoder_eighth", "decoder_quarter")
    loss_names: ClassVar[tuple[str, ...]] = ("attention",)

    def losses(
        self, teacher: ForwardOutputs, student: ForwardOutputs, mask: Tensor
    ) -> dict[str, Tensor]:
        """``attention``: squared difference of attention maps, mean over pixels, sum over taps."""
        distances = []
        for tap in self.taps:
            theirs = teacher.taps[tap]
            ours = resized(student.taps[tap], theirs.shape[-2:])
            distances.append(F.mse_loss(attention(ours), attention(theirs)))
        return {"attention": torch.stack(distances).sum()}


def attention(feature: Tensor) -> Tensor:
    """Σ_c F_c² of (B, C, h, w), flattened to (B, h w) and of length 1 (eq. 2)."""
    return F.normalize(feature.square().sum(1).flatten(1))
