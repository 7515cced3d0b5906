"""Warnings about distillations that cannot help: weak teachers, and losses that dominate."""

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
"""Least norm of a loss's gradient, relative to that of the masks, that causes a warning."""

MIN_TEACHER_LEAD = 0.01
"""Least Dice of a teacher above its student: below it, distillation gained nothing on CHASE_DB1."""

SAMPLES = 8
"""Maximum batch size for comparing gradients."""


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
        """Whether the loss turns the total gradient away from the gradient of the masks.

        True if the ratio is at least `DOMINANCE_RATIO`, and the cosine between the total
        gradient and the gradient of the masks is at most that for an orthogonal loss of this
        ratio. A loss of any size whose gradient is parallel to that of the masks does
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

    Small losses can have large gradients: the edges of a graph between vectors that hardly
    differ change with the slightest step. Adam then follows those gradients instead of the masks'.

    Parameters
    ----------
    stage
        Stage to evaluate; a copy is used, and the stage itself does not change.
    batch
        Training batch of the stage.
    fabric
        Device and precision.

    Returns
    -------
    dict of str to GradientRatio
        Loss name -> ratio; empty if the gradient of the masks is zero.
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
        flat = gradient(loss)
        return GradientRatio(float(flat.norm()) / norm, float(F.cosine_similarity(flat, masks, 0)))

    return {name: ratio(loss) for name, loss in weighted.items()}


def weak_teacher_notes(teacher: float, baseline: float, trained: bool | None = True) -> list[str]:
    """Return a sentence if the validation Dice of the teacher hardly exceeds the baseline's.

    Parameters
    ----------
    teacher, baseline
        Dice on the validation images.
    trained
        Whether the run trained the teacher; false if it did not but could fine-tune it, and
        None if the teacher cannot be trained.

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
    """Return a sentence if the validation Dice of the distilled student is at most the baseline's.

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
    """Return a sentence for each loss that dominates the masks, with a weight that would not.

    Parameters
    ----------
    ratios
        Loss name, ``<method>/<loss>`` -> ratio; see `gradient_ratios`.
    methods
        Options of the methods, as in `Recipe.distillation`.
    """
    sentences = []
    options = {method.method: method for method in methods}
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
