"""A control, not a distillation: the mask takes the teacher's place."""

from typing import Annotated, ClassVar, Literal

import torch
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
    mixed
        Weight of the cross entropy of mixed patches with the mixed masks, the
        control of ``function_matching``.
    views
        Views of each sample (K). With none, nothing is added to the losses
        from masks: the student alone.
    longer
        Factor on the steps of ``distil``, for a student alone that takes as
        long as a distilled one; what a step costs is measured, so it has decimals.
    whole_batch
        Whether, beside images without masks, all patches of a batch have
        masks, and not half of them.
    """

    method: Literal["masks"] = "masks"
    ce: Annotated[Weight, Field(title="Cross-entropy in every view")] = 1.0
    mixed: Annotated[Weight, Field(title="Cross-entropy of mixed patches")] = 0.0
    views: Annotated[int, Field(ge=0, le=64)] = 2
    longer: Annotated[float, Field(ge=1, le=1000)] = 1.0
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


class MixedMasks(Distillation[MasksOptions]):
    """Teach the mixed masks of mixed patches: mixup (Zhang et al. 2018, arXiv 1710.09412).

    `FunctionMatching` without its teacher: the same patches and passes.
    """

    loss_names: ClassVar[tuple[str, ...]] = ("mixed",)
    mixes: ClassVar[bool] = True
    whole_batch: ClassVar[tuple[str, ...]] = ("mixed_logits", "mixed_share", "partner_mask")
    reads_teacher: ClassVar[bool] = False

    def losses(
        self, teacher: ForwardOutputs, student: ForwardOutputs, mask: Tensor
    ) -> dict[str, Tensor]:
        """``mixed``: λ CE(own mask) + (1 - λ) CE(the partner's), mean over labelled samples.

        A partner without a mask adds nothing.
        """
        assert student.mixed_logits is not None
        assert student.mixed_share is not None and student.partner_mask is not None
        labelled = len(mask)
        logits, partner = student.mixed_logits[:labelled], student.partner_mask[:labelled]
        share = student.mixed_share[:labelled, 0]
        own = F.cross_entropy(logits, mask, reduction="none")
        others = F.cross_entropy(logits, partner, reduction="none", ignore_index=-1)
        return {"mixed": torch.lerp(others, own, share).mean()}
