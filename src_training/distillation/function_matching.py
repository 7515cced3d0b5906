"""Function matching: teacher and student predict the same mixed patches.

Beyer et al., "Knowledge distillation: A good teacher is patient and consistent", CVPR 2022,
arXiv 2106.05237.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from src_training.distillation.base import Distillation, ForwardOutputs, OutputOptions, Weight
from src_training.losses.divergence import softened_divergence


class FunctionMatchingOptions(OutputOptions):
    """Options of ``function_matching``.

    The paper trains with this loss only, and for very long; here the supervised
    losses are added. ``teacher_sees: plain`` mixes the teacher's predictions of
    both plain patches (*reconstruction*).

    Attributes
    ----------
    matching
        Weight of the divergence of the predictions.
    temperature
        Temperature T, which divides the logits.
    """

    method: Literal["function_matching"] = "function_matching"
    matching: Annotated[Weight, Field(title="Predictions of mixed patches")] = 1.0
    temperature: Annotated[float, Field(gt=0)] = 1.0


class FunctionMatching(Distillation[FunctionMatchingOptions]):
    """The student learns the teacher's prediction of mixed patches, λ a + (1 - λ) b.

    a and b are two anchors of the batch, each with its own augmentation, and λ
    is drawn from [0, 1] for each pair. Both networks see the same mixed patch,
    which takes a further forward pass of each. Mixing pixel by pixel is the
    paper's mixup for dense outputs (*reconstruction*).
    """

    loss_names: ClassVar[tuple[str, ...]] = ("matching",)
    learns_outputs: ClassVar[bool] = True
    mixes: ClassVar[bool] = True

    def losses(
        self, teacher: ForwardOutputs, student: ForwardOutputs, mask: Tensor
    ) -> dict[str, Tensor]:
        """Loss ``matching``: `softened_divergence` of the logits of the mixed patches."""
        assert teacher.mixed_logits is not None and student.mixed_logits is not None
        divergence = softened_divergence(
            teacher.mixed_logits, student.mixed_logits, self.options.temperature
        )
        return {"matching": divergence}
