"""Domain-Invariant Cross Distillation (GKD, arXiv 2207.12995).

The wiring (headers exchanged, skips kept) is published; the loss is our
*reconstruction*.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from torch import Tensor, nn

from src_training.distillation.base import Distillation, ForwardOutputs, exact
from src_training.losses.divergence import pixel_divergence


class DICD(Distillation):
    """Let each network decode the other's semantic vector.

    p1 = Dec_T(skips_T, H_T(E_S(F_S))) trains the student's encoder, through
    the frozen teacher; p2 = Dec_S(skips_S, H_S(E_T(F_T))) trains its decoder
    and, by the skips, its encoder.
    L_cross = KL(p_T || p1) + KL(p_T || p2), mean over pixels.
    """

    weights: ClassVar[dict[str, float]] = {"cross": 1.0}
    # Its passes through the networks are most of it.
    half_precision: ClassVar[bool] = True

    def losses(
        self, teacher: ForwardOutputs, student: ForwardOutputs, mask: Tensor
    ) -> dict[str, Tensor]:
        """The ``cross`` loss, a scalar >= 0."""
        # Of logits in half precision a divergence soon overflows.
        target, first, second = map(exact, (teacher.logits, *cross_predictions(teacher, student)))
        return {"cross": pixel_divergence(target, first) + pixel_divergence(target, second)}


def cross_predictions(teacher: ForwardOutputs, student: ForwardOutputs) -> tuple[Tensor, Tensor]:
    """Logits of p1 and p2, each (B, classes, H, W)."""
    student_vector = student.alignment.encoder(student.bottleneck)
    teacher_vector = teacher.alignment.encoder(teacher.bottleneck).detach()
    first = teacher.network.decode(teacher.skips, teacher.alignment.header(student_vector))
    with running_statistics_kept(student.network):
        second = student.network.decode(student.skips, student.alignment.header(teacher_vector))
    return first, second


@contextmanager
def running_statistics_kept(network: nn.Module) -> Iterator[None]:
    """Normalise by the batch, but leave the running statistics as they are.

    A student that decodes a foreign bottleneck must not carry its statistics
    into the model that segments.
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
