"""Distillation of the teacher's prediction of the plain anchor to all views (*reconstruction*)."""

from typing import ClassVar

from torch import Tensor

from src_training.distillation.base import Distillation, ForwardOutputs
from src_training.distillation.gkd.options import GKDOptions
from src_training.losses.divergence import pixel_divergence


class ViewPredictions(Distillation[GKDOptions]):
    """The student learns the teacher's prediction of the plain anchor in anchor and views.

    L_predictions = KL(p_T(x) || p_S(v)), mean over the pixels of the anchor and
    the K views v of x, which all show the same tissue in the same place. With
    ``teacher_sees: same`` the teacher predicts the anchor with its style augmentation.
    """

    predicts_views: ClassVar[bool] = True
    learns_outputs: ClassVar[bool] = True
    loss_names: ClassVar[tuple[str, ...]] = ("predictions",)

    @property
    def views(self) -> int:
        """Number K of augmented views that it reads for each sample."""
        return self.options.views

    def losses(
        self, teacher: ForwardOutputs, student: ForwardOutputs, mask: Tensor
    ) -> dict[str, Tensor]:
        """Loss ``predictions``, a scalar >= 0."""
        styles = student.styles
        target = teacher.logits[:, None].expand_as(styles)
        return {"predictions": pixel_divergence(target.flatten(0, 1), styles.flatten(0, 1))}
