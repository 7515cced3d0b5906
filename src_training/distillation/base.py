"""The one interface of every distillation: two passes in, named losses out."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

from src_training.alignment.msan import AlignmentNetwork
from src_training.networks.base import SegmentationNetwork, Skips


@dataclass(frozen=True)
class Pass:
    """What one network made of a batch.

    Attributes
    ----------
    network
        The network itself, for distillations that decode again.
    alignment
        Its TAN or SAN.
    skips, bottleneck, logits
        What `encode` and `decode` made of the anchors: bottleneck
        (B, C, h, w), logits (B, classes, H, W).
    vectors
        Semantic vectors (B, 1 + K, latent): the anchor's first, then those
        of its K views.
    """

    network: SegmentationNetwork
    alignment: AlignmentNetwork
    skips: Skips
    bottleneck: Tensor
    logits: Tensor
    vectors: Tensor


class Distillation(nn.Module, ABC):
    """A way in which a teacher's pass teaches a student's.

    Knows no files, devices, recipes or loops.
    """

    @abstractmethod
    def forward(self, teacher: Pass, student: Pass) -> dict[str, Tensor]:
        """Unweighted scalar losses by name; gradients reach the student only."""
