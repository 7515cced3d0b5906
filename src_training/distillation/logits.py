"""Logits distillation: Hinton et al., "Distilling the knowledge in a neural network", 2015.

arXiv 1503.02531, applied to every pixel.
"""

from typing import ClassVar, Literal

from torch import Tensor

from src_training.distillation.base import Distillation, ForwardOutputs, OutputOptions, Weight
from src_training.losses.divergence import softened_divergence

TEMPERATURE = 4.0
"""Temperature T, which divides the logits; 1 to 20 worked equally well in the paper."""


class LogitsKDOptions(OutputOptions):
    """Options of ``logits``.

    Attributes
    ----------
    logits
        Weight of the softened divergence.
    """

    method: Literal["logits"] = "logits"
    logits: Weight = 1.0


class LogitsKD(Distillation[LogitsKDOptions]):
    """The student learns the teacher's softened prediction of every pixel."""

    learns_outputs: ClassVar[bool] = True
    loss_names: ClassVar[tuple[str, ...]] = ("logits",)

    def losses(
        self, teacher: ForwardOutputs, student: ForwardOutputs, mask: Tensor
    ) -> dict[str, Tensor]:
        """Loss ``logits``: `softened_divergence` of the logits."""
        return {"logits": softened_divergence(teacher.logits, student.logits, TEMPERATURE)}
