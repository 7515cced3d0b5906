"""Domain-invariant cross distillation (GKD, arXiv 2207.12995)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from torch import Tensor, nn

from src_training.distillation.base import Distillation, ForwardOutputs, exact
from src_training.distillation.gkd.options import GKDOptions
from src_training.losses.divergence import pixel_divergence


class DICD(Distillation[GKDOptions]):
    """Domain-invariant cross distillation: each network decodes the other's semantic vector.

    p1 = Dec_T(skips_T, H_T(E_S(F_S))) trains the student's encoder through the
    frozen teacher; p2 = Dec_S(skips_S, H_S(E_T(F_T))) trains the student's
    decoder and, through the skips, its encoder.
    L_cross = KL(p_T || p1) + KL(p_T || p2), mean over pixels.
    """

    loss_names: ClassVar[tuple[str, ...]] = ("cross",)
    # The two further decoder passes are most of the cost.
    half_precision: ClassVar[bool] = True

    def losses(
        self, teacher: ForwardOutputs, student: ForwardOutputs, mask: Tensor
    ) -> dict[str, Tensor]:
        """Loss ``cross``, a scalar >= 0."""
        # The divergence overflows in half precision.
        target, first, second = map(exact, (teacher.logits, *cross_predictions(teacher, student)))
        return {"cross": pixel_divergence(target, first) + pixel_divergence(target, second)}


def cross_predictions(teacher: ForwardOutputs, student: ForwardOutputs) -> tuple[Tensor, Tensor]:
    """Decode with the other network's semantic vector.

    Parameters
    ----------
    teacher, student
        Outputs of both networks, whose alignment networks have the same latent size.

    Returns
    -------
    tuple of Tensor
        Logits p1, the teacher's decoding of the student's vector, and p2, the
        student's decoding of the teacher's vector; each (B, classes, H, W).
    """
    student_vector = student.alignment.encoder(student.bottleneck)
    teacher_vector = teacher.alignment.encoder(teacher.bottleneck).detach()
    first = teacher.network.decode(teacher.skips, teacher.alignment.header(student_vector))
    with frozen_running_statistics(student.network):
        second = student.network.decode(student.skips, student.alignment.header(teacher_vector))
    return first, second


@contextmanager
def frozen_running_statistics(network: nn.Module) -> Iterator[None]:
    """In the block, batch norms use batch statistics but do not update running statistics.

    The running statistics, which the student uses in evaluation mode, must not
    include features that are decoded from the teacher's vectors.
    """
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
