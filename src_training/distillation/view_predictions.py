"""The teacher's predictions of every view, as a further term of GKD (*reconstruction*).

The published graphs compare what two networks make of the same views by one
vector a view, which says little of where a vessel lies. Here the student also
learns what the teacher predicts for each pixel of anchor and views.
"""

from typing import ClassVar

import torch
from torch import Tensor

from src_training.alignment.act import pixel_divergence
from src_training.distillation.base import Distillation, Pass


class ViewPredictions(Distillation):
    """Teach the teacher's prediction of the anchor and of each of its views.

    L_predictions = KL(p_T(v) || p_S(v)), mean over the pixels of all 1 + K views v.
    """

    views: ClassVar[bool] = True
    decodes_views: ClassVar[bool] = True
    weights: ClassVar[dict[str, float]] = {"predictions": 1.0}

    def losses(self, teacher: Pass, student: Pass, mask: Tensor) -> dict[str, Tensor]:
        """The ``predictions`` loss, a scalar >= 0."""
        return {"predictions": pixel_divergence(_all_views(teacher), _all_views(student))}


def _all_views(made: Pass) -> Tensor:
    assert made.view_logits is not None
    return torch.cat([made.logits, made.view_logits.flatten(0, 1)])
