"""A method as a contributor would add it: options, a distillation, and a registry entry."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from src_training.distillation import Distillation, MethodOptions, MethodSpec
from src_training.distillation.base import Weight


class MeanLogitsOptions(MethodOptions):
    """Options of ``mean_logits``.

    Attributes
    ----------
    ce
        Weight of the loss, which has the name of a loss from masks.
    power
        Of the absolute difference.
    """

    method: Literal["mean_logits"] = "mean_logits"
    ce: Weight = 0.5
    power: Annotated[int, Field(ge=1)] = 2


class MeanLogits(Distillation[MeanLogitsOptions]):
    """The student learns the teacher's mean logits of each image."""

    loss_names: ClassVar[tuple[str, ...]] = ("ce",)

    def losses(self, teacher, student, mask):
        """Loss ``ce``, a scalar >= 0."""
        difference = student.logits.mean((2, 3)) - teacher.logits.mean((2, 3))
        return {"ce": difference.abs().pow(self.options.power).mean()}


SPEC = MethodSpec("mean logits", "tests", MeanLogitsOptions, (MeanLogits,))
