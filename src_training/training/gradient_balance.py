"""What a distillation has to set against the masks: its teacher's lead, its losses' gradients."""

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
"""How many times the gradient of the masks a loss that is spoken of pulls at least."""

WORTH_TEACHING = 0.01
"""Dice by which a teacher leads: vessels of CHASE_DB1, taught with no more, gained nothing."""

SAMPLES = 8
"""A batch that tells: at most as many as these."""


class GradientRatio(NamedTuple):
    """How a loss pulls at the student, beside the masks.

    Attributes
    ----------
    times
        Norm of its weighted gradient, over that of the masks.
    along
        Cosine of the angle between the two.
    """

    times: float
    along: float

    @property
    def dominates(self) -> bool:
        """Whether it is loud, and a step of both no longer goes where the masks point.

        The bound is the cosine that a loss at right angles, `DOMINANCE_RATIO` times as
        strong, leaves. What says the same as the masks may be as loud as it likes.
        """
        if self.times < DOMINANCE_RATIO:
            return False
        both = math.sqrt(1 + 2 * self.times * self.along + self.times**2)
        return (1 + self.times * self.along) / both <= 1 / math.hypot(1, DOMINANCE_RATIO) + 1e-9


def gradient_ratios(
    stage: DistillationStage, batch: Batch, fabric: Fabric
) -> dict[str, GradientRatio]:
    """How each distillation pulls at the student, beside the masks.

    Vectors that hardly differ make graphs whose edges turn at a touch: their
    losses are small, and their gradients are many times those of the masks.
    Adam then goes where they point, whatever the masks say.

    Parameters
    ----------
    stage
        Stays as it is.
    batch
        As it learns from.
    fabric
        Owns device and precision.

    Returns
    -------
    dict
        Loss -> its pull; empty where the masks have no gradient.
    """
    probe = fabric.to_device(copy.deepcopy(stage)).train()
    with fabric.autocast():
        weighted = probe.weighted(probe(batch))
    parameters = trainable_parameters(probe.trained)

    def gradient(loss: Tensor) -> Tensor:
        found = torch.autograd.grad(loss, parameters, retain_graph=True, materialize_grads=True)
        return torch.cat([each.flatten() for each in found])

    of_masks = [name for name in weighted if name.startswith(f"{SEGMENTATION}/")]
    masks = gradient(torch.stack([weighted.pop(name) for name in of_masks]).sum())
    norm = float(masks.norm())
    if not norm:
        return {}

    def pull(loss: Tensor) -> GradientRatio:
        if not loss.requires_grad:
            return GradientRatio(0.0, 0.0)
        own = gradient(loss)
        return GradientRatio(float(own.norm()) / norm, float(F.cosine_similarity(own, masks, 0)))

    return {name: pull(loss) for name, loss in weighted.items()}


def little_to_teach(teacher: float, alone: float) -> list[str]:
    """A sentence where the Dice of a teacher hardly exceeds that of the student alone."""
    if teacher - alone >= WORTH_TEACHING:
        return []
    return [
        f"The teacher has a Dice of {teacher:.3f} on the validation images and the student "
        f"alone {alone:.3f}, so that there is little to teach; a wider teacher, or more "
        "steps of it (stages.teacher.steps), would know more"
    ]


def nothing_gained(distilled: float, alone: float) -> list[str]:
    """A sentence where the Dice of a student is no better for what it was taught."""
    if distilled > alone:
        return []
    return [
        f"Distilled, the student has a Dice of {distilled:.3f} on the validation images, and "
        f"{alone:.3f} from masks alone: its teacher did not help it"
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
                f"The gradient of {name} is {ratio.times:.0f} times that of the masks and points "
                "elsewhere, so that the student learns little of them; "
                f"distillation.{method}.{loss} of {weight / ratio.times:.2g} "
                f"instead of {weight:g} would make them equal"
            )
    return sentences
