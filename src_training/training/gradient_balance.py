"""Warnings of distillations that cannot help: weak teachers, losses that dominate the masks."""

import copy
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor

from src_training.data.sampling import Batch
from src_training.distillation import MethodOptions
from src_training.training.stages.base import SEGMENTATION, trainable_parameters
from src_training.training.stages.distillation import DistillationStage

DOMINANCE_RATIO = 5.0
"""Least norm of a loss's gradient, relative to that of the masks, that is warned of."""

MIN_TEACHER_LEAD = 0.01
"""Dice; with a smaller lead of the teacher, distillation gained nothing on CHASE_DB1."""

SAMPLES = 8
"""Most samples of the batch on which gradients are compared."""


class GradientRatio(NamedTuple):
    """The gradient of a weighted loss compared with that of the losses from masks.

    Attributes
    ----------
    norm
        Ratio of the norms.
    cosine
        Cosine of the angle between the gradients.
    """

    norm: float
    cosine: float

    @property
    def dominates(self) -> bool:
        """Whether the sum of both gradients no longer points where that of the masks does.

        The ratio is at least `DOMINANCE_RATIO`, and the cosine between the sum
        and the gradient of the masks at most that of an orthogonal loss of this
        ratio. A loss of any size whose gradient is along that of the masks does
        not dominate.

        >>> GradientRatio(norm=60.0, cosine=0.0).dominates
        True
        >>> GradientRatio(norm=60.0, cosine=1.0).dominates
        False
        """
        if self.norm < DOMINANCE_RATIO:
            return False
        length = math.sqrt(1 + 2 * self.norm * self.cosine + self.norm**2)
        return (1 + self.norm * self.cosine) / length <= 1 / math.hypot(1, DOMINANCE_RATIO) + 1e-9


def gradient_ratios(
    stage: DistillationStage, batch: Batch, fabric: Fabric
) -> dict[str, GradientRatio]:
    """Compare the gradient of each distillation loss with that of the losses from masks.

    The edges of graphs between vectors that hardly differ change with the
    slightest step: such losses are small, but their gradients are many times
    those of the masks, and Adam follows them.

    Parameters
    ----------
    stage
        A copy of it is evaluated; it stays as it is.
    batch
        A batch as the stage is trained on.
    fabric
        Device and precision.

    Returns
    -------
    dict of str to GradientRatio
        By name of the loss; empty if the masks have no gradient.
    """
    probe = fabric.to_device(copy.deepcopy(stage)).train()
    with fabric.autocast():
        weighted = probe.weighted(probe(batch))
    parameters = trainable_parameters(probe.trained)

    def gradient(loss: Tensor) -> Tensor:
        parts = torch.autograd.grad(loss, parameters, retain_graph=True, materialize_grads=True)
        return torch.cat([part.flatten() for part in parts])

    of_masks = [name for name in weighted if name.startswith(f"{SEGMENTATION}/")]
    masks = gradient(torch.stack([weighted.pop(name) for name in of_masks]).sum())
    norm = float(masks.norm())
    if not norm:
        return {}

    def ratio(loss: Tensor) -> GradientRatio:
        if not loss.requires_grad:
            return GradientRatio(0.0, 0.0)
        own = gradient(loss)
        return GradientRatio(float(own.norm()) / norm, float(F.cosine_similarity(own, masks, 0)))

    return {name: ratio(loss) for name, loss in weighted.items()}


def weak_teacher_notes(teacher: float, baseline: float, trained: bool | None = True) -> list[str]:
    """A sentence if the validation Dice of the teacher hardly exceeds that of the baseline.

    Parameters
    ----------
    teacher, baseline
        Their Dice on the validation images.
    trained
        Whether the run trained the teacher; if not, it can still be fine-tuned; None if not
        even that.

    Examples
    --------
    >>> weak_teacher_notes(teacher=0.75, baseline=0.70)
    []
    """
    if teacher - baseline >= MIN_TEACHER_LEAD:
        return []
    way = "more steps of it (stages.teacher.steps)" if trained else "fine-tuning it (teacher.train)"
    better = "a better teacher" if trained is None else f"a wider teacher, or {way},"
    return [
        f"The teacher has a Dice of {teacher:.3f} on the validation images and the student "
        f"alone {baseline:.3f}, so that there is little to teach; {better} would know more"
    ]


def no_gain_notes(distilled: float, baseline: float) -> list[str]:
    """A sentence if the validation Dice of the distilled student is not above the baseline's.

    >>> no_gain_notes(distilled=0.75, baseline=0.70)
    []
    """
    if distilled > baseline:
        return []
    return [
        f"Distilled, the student has a Dice of {distilled:.3f} on the validation images, and "
        f"{baseline:.3f} from masks alone: its teacher did not help it"
    ]


def dominance_warnings(
    ratios: Mapping[str, GradientRatio], methods: Sequence[MethodOptions]
) -> list[str]:
    """A sentence for each loss that dominates the masks, with a weight that would not.

    Parameters
    ----------
    ratios
        Ratio of each loss by its name, ``<method>/<loss>``; see `gradient_ratios`.
    methods
        Options of the methods, as in `Recipe.distillation`.
    """
    sentences = []
    options = {each.method: each for each in methods}
    for name, ratio in ratios.items():
        if ratio.dominates:
            method, loss = name.split("/")
            weight = getattr(options[method], loss)
            sentences.append(
                f"The gradient of {name} is {ratio.norm:.0f} times that of the masks and points "
                "elsewhere, so that the student learns little of them; "
                f"distillation.{method}.{loss} of {weight / ratio.norm:.2g} "
                f"instead of {weight:g} would make them equal"
            )
    return sentences
