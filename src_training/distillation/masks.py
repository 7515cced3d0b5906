"""A control, not a distillation: the mask takes the teacher's place."""

from typing import Annotated, ClassVar, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from src_training.distillation.base import Distillation, ForwardOutputs, MethodOptions, Weight


class MasksOptions(MethodOptions):
    """Options of ``masks``, the student without a teacher; a run has it alone or beside a method.

    Alone it learns from the images with masks only, and as many a step as the baseline.

    Attributes
    ----------
    ce
        Weight of the cross entropy of anchor and views.
    views
        Views of each sample (K). With none, nothing is added to the losses
        from masks: the student alone.
    longer
        Factor on the steps of ``distil``, for a student alone that takes as
        long as a distilled one.
    whole_batch
        Whether, beside images without masks, all patches of a batch have
        masks, and not half of them.
    """

    method: Literal["masks"] = "masks"
    ce: Annotated[Weight, Field(title="Cross-entropy in every view")] = 1.0
    views: Annotated[int, Field(ge=0, le=64)] = 2
    longer: Annotated[int, Field(ge=1, le=1000)] = 1
    whole_batch: bool = False


class Masks(Distillation[MasksOptions]):
    """Teach the mask in anchor and views alike.

    Whatever gain this has is one of the further passes, and not of a teacher.
    """

    loss_names: ClassVar[tuple[str, ...]] = ("ce",)
    predicts_views: ClassVar[bool] = True
    # A mean over labelled samples, of which processes may have different numbers.
    whole_batch: ClassVar[tuple[str, ...]] = ("logits", "view_logits")
    reads_teacher: ClassVar[bool] = False

    @property
    def views(self) -> int:
        """Number K of augmented views that it reads of each sample."""
        return self.options.views

    def losses(
        self, teacher: ForwardOutputs, student: ForwardOutputs, mask: Tensor
    ) -> dict[str, Tensor]:
        """``ce``, mean over pixels of all 1 + K views of the labelled samples; 0 without views."""
        if not self.options.views:
            return {"ce": student.logits.new_zeros(())}
        styles = student.styles[: len(mask)]
        target = mask[:, None].expand(-1, styles.shape[1], -1, -1)
        return {"ce": F.cross_entropy(styles.flatten(0, 1), target.flatten(0, 1))}
