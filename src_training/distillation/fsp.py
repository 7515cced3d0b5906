"""Flow of the solution procedure: Yim et al., "A gift from knowledge distillation", CVPR 2017."""

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src_training.distillation.base import Distillation, ForwardOutputs, MethodOptions, Weight
from src_training.networks.base import SegmentationNetwork

_LAYER_PAIRS = (
    ("encoder_half", "encoder_quarter"),
    ("encoder_quarter", "encoder_eighth"),
    ("decoder_quarter", "decoder_half"),
)


class FSPOptions(MethodOptions):
    """Options of ``fsp``.

    Attributes
    ----------
    flow
        Weight of the distance between flow matrices (*reconstruction*).
    """

    method: Literal["fsp"] = "fsp"
    flow: Weight = 1.0


class FSP(Distillation[FSPOptions]):
    """The student learns how the teacher's features of one layer relate to another layer's.

    The paper assumes that both networks have the same channels. Where they
    differ, a 1x1 convolution, trained together with the student, maps the
    student's channels to the teacher's. This convolution, the choice of layers
    and the weight are our *reconstruction*.

    Parameters
    ----------
    options
        Weight of the loss.
    channels
        Tap -> channels of the student and of the teacher, for taps where they differ.
    """

    taps: ClassVar[tuple[str, ...]] = tuple(
        dict.fromkeys(tap for pair in _LAYER_PAIRS for tap in pair)
    )
    loss_names: ClassVar[tuple[str, ...]] = ("flow",)

    def __init__(self, options: FSPOptions, channels: Mapping[str, tuple[int, int]]) -> None:
        super().__init__(options)
        self.adapted = nn.ModuleDict(
            {tap: nn.Conv2d(*pair, 1, bias=False) for tap, pair in channels.items()}
        )

    @classmethod
    def for_pair(
        cls, options: FSPOptions, teacher: SegmentationNetwork, student: SegmentationNetwork
    ) -> Self:
        """Build the distillation with a convolution for each tap whose channels differ."""
        before, after = student.tap_channels(*cls.taps), teacher.tap_channels(*cls.taps)
        pairs = {tap: (before[tap], after[tap]) for tap in cls.taps}
        return cls(options, {tap: pair for tap, pair in pairs.items() if pair[0] != pair[1]})

    def losses(
        self, teacher: ForwardOutputs, student: ForwardOutputs, mask: Tensor
    ) -> dict[str, Tensor]:
        """Loss ``flow``: mean squared difference of the FSP matrices, mean over pairs of layers."""
        adapted = {
            tap: self.adapted[tap](feature) if tap in self.adapted else feature
            for tap, feature in student.taps.items()
            if tap in self.taps
        }
        distances = [
            F.mse_loss(
                fsp_matrix(adapted[a], adapted[b]), fsp_matrix(teacher.taps[a], teacher.taps[b])
            )
            for a, b in _LAYER_PAIRS
        ]
        return {"flow": torch.stack(distances).mean()}


def fsp_matrix(first: Tensor, second: Tensor) -> Tensor:
    """G = Σ_xy F1 F2 / (h w), the inner products of the channels of two layers (eq. 1).

    The larger feature is max-pooled to the size of the smaller, as in the paper.

    Parameters
    ----------
    first, second
        Features (B, C1, h1, w1) and (B, C2, h2, w2).

    Returns
    -------
    Tensor
        (B, C1, C2).

    Examples
    --------
    >>> fsp_matrix(torch.ones(1, 2, 4, 4), 3 * torch.ones(1, 1, 2, 2))
    tensor([[[3.],
             [3.]]])
    """
    size = tuple(min(a, b) for a, b in zip(first.shape[-2:], second.shape[-2:], strict=True))
    a, b = (F.adaptive_max_pool2d(feature, size).flatten(2) for feature in (first, second))
    return a @ b.mT / a.shape[-1]
