"""A control without a teacher: the student learns the masks in place of teacher outputs."""

from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from src_training.distillation.base import Distillation, ForwardOutputs, MethodOptions, Weight


class MasksOptions(MethodOptions):
    """Options of ``masks``, a student without a teacher; a run may combine it with a method.

    Without another method, the student sees only images with masks, as many in
    each step as the baseline.

    Attributes
    ----------
    ce
        Weight of the cross entropy of anchor and views.
    mixed
        Weight of the cross entropy of mixed patches and mixed masks, the
        control for ``function_matching``.
    views
        Views of each sample (K). With 0, `ce` adds nothing to the supervised
        losses.
    longer
        Factor on the steps of ``distil``, so that a student without a teacher
        trains for as long as a distilled one. It is the measured ratio of the
        time per step, hence not an integer.
    whole_batch
        Whether all patches of a batch have masks, instead of half of them,
        where there are also images without masks.
    """

    method: Literal["masks"] = "masks"
    ce: Annotated[Weight, Field(title="Cross-entropy in every view")] = 1.0
    mixed: Annotated[Weight, Field(title="Cross-entropy of mixed patches")] = 0.0
    views: Annotated[int, Field(ge=0, le=64)] = 2
    longer: Annotated[float, Field(ge=1, le=1000)] = 1.0
    whole_batch: bool = False


class Masks(Distillation[MasksOptions]):
    """The student learns the mask in the anchor and in its views.

    A gain over the baseline then comes from the additional views, not from a teacher.
    """

    loss_names: ClassVar[tuple[str, ...]] = ("ce",)
    predicts_views: ClassVar[bool] = True
    # A mean over labelled samples, whose number may differ between processes.
    whole_batch: ClassVar[tuple[str, ...]] = ("logits", "view_logits")
    reads_teacher: ClassVar[bool] = False

    @property
    def views(self) -> int:
        """Number K of augmented views that it reads for each sample."""
        return self.options.views

    def losses(
        self, teacher: ForwardOutputs, student: ForwardOutputs, mask: Tensor
    ) -> dict[str, Tensor]:
        """Loss ``ce``, mean over pixels of anchor and K views of labelled samples; 0 if K is 0."""
        if not self.options.views:
            return {"ce": student.logits.new_zeros(())}
        styles = student.styles[: len(mask)]
        target = mask[:, None].expand(-1, styles.shape[1], -1, -1)
        return {"ce": F.cross_entropy(styles.flatten(0, 1), target.flatten(0, 1))}


class MixedMasks(Distillation[MasksOptions]):
    """The student learns the mixed masks of mixed patches (mixup, arXiv 1710.09412).

    It has the same patches and student passes as `FunctionMatching`, without a teacher.
    """

    loss_names: ClassVar[tuple[str, ...]] = ("mixed",)
    mixes: ClassVar[bool] = True
    whole_batch: ClassVar[tuple[str, ...]] = ("mixed_logits", "mixed_share", "partner_mask")
    reads_teacher: ClassVar[bool] = False

    def losses(
        self, teacher: ForwardOutputs, student: ForwardOutputs, mask: Tensor
    ) -> dict[str, Tensor]:
        """Loss ``mixed``: λ CE(anchor's mask) + (1 - λ) CE(partner's mask).

        The mean is over labelled samples; a partner without a mask contributes 0.
        """
        assert student.mixed_logits is not None
        assert student.mixed_share is not None and student.partner_mask is not None
        labelled = len(mask)
        logits, partner = student.mixed_logits[:labelled], student.partner_mask[:labelled]
        share = student.mixed_share[:labelled, 0]
        anchor_loss = F.cross_entropy(logits, mask, reduction="none")
        partner_loss = F.cross_entropy(logits, partner, reduction="none", ignore_index=-1)
        return {"mixed": torch.lerp(partner_loss, anchor_loss, share).mean()}
