"""The teacher's prediction, in every style, as a further term of GKD (*reconstruction*).

The published graphs compare what two networks make of the same views by one
vector a view, which says little of where a vessel lies. Here the student also
learns to predict of anchor and views, each in the style of another scanner,
what the teacher predicts where it knows best: on the anchor as its own scanner
shows it.
"""

from typing import ClassVar

import torch
from torch import Tensor

from src_training.distillation.base import Distillation, ForwardOutputs
from src_training.losses.divergence import pixel_divergence


class ViewPredictions(Distillation):
    """Teach the teacher's prediction of the plain anchor in anchor and views alike.

    L_predictions = KL(p_T(x) || p_S(v)), mean over the pixels of all 1 + K
    views v of x. Views show the same tissue in the same place.
    """

    predicts_views: ClassVar[bool] = True
    weights: ClassVar[dict[str, float]] = {"predictions": 1.0}

    def losses(
        self, teacher: ForwardOutputs, student: ForwardOutputs, mask: Tensor
    ) -> dict[str, Tensor]:
        """The ``predictions`` loss, a scalar >= 0."""
        assert teacher.plain_logits is not None and student.view_logits is not None
        styles = torch.cat([student.logits[:, None], student.view_logits], dim=1)
        known = teacher.plain_logits[:, None].expand_as(styles)
        return {"predictions": pixel_divergence(known.flatten(0, 1), styles.flatten(0, 1))}
