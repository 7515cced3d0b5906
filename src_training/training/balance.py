"""Whether one loss drowns the masks: the gradients that a student gets from each."""

import copy
from typing import NamedTuple

import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor

from src_training.data.patches import Batch
from src_training.recipe import Distilling, Supervision
from src_training.training.distilling import Distil
from src_training.training.stages import learnable
from src_training.training.supervision import WEIGHTS

LOUD = 5.0
"""How many times the gradient of the masks a loss that is spoken of pulls at least."""

SAMPLES = 8
"""A batch that tells: at most as many as these."""


class Pull(NamedTuple):
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
    def drowns(self) -> bool:
        """Whether it is loud, and a step of both no longer goes where the masks point.

        The bound is the cosine that a loss at right angles, `LOUD` times as
        strong, leaves. What says the same as the masks may be as loud as it likes.
        """
        both = (1 + 2 * self.times * self.along + self.times**2) ** 0.5
        left = (1 + self.times * self.along) / max(both, 1e-12)
        return self.times >= LOUD and left <= (1 + LOUD**2) ** -0.5 + 1e-9


def pulls(stage: Distil, batch: Batch, supervision: Supervision, fabric: Fabric) -> dict[str, Pull]:
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
    supervision
        Tells which losses come from masks.
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
    parameters = learnable(probe.trained)

    def gradient(loss: Tensor) -> Tensor:
        parts = [torch.zeros_like(parameter) for parameter in parameters]
        if loss.requires_grad:
            parts = list(
                torch.autograd.grad(loss, parameters, retain_graph=True, materialize_grads=True)
            )
        return torch.cat([part.flatten() for part in parts])

    masks = gradient(torch.stack([weighted.pop(name) for name in WEIGHTS[supervision]]).sum())
    norm = float(masks.norm())
    if not norm:
        return {}
    found = {name: gradient(loss) for name, loss in weighted.items()}
    return {
        name: Pull(float(each.norm()) / norm, float(F.cosine_similarity(each, masks, 0)))
        for name, each in found.items()
    }


def loud_in_words(found: dict[str, Pull]) -> list[str]:
    """A sentence for each loss that drowns the masks."""
    return [
        f"The gradient of {name} is {pull.times:.0f} times that of the masks and points "
        "elsewhere, so that the student learns little of them; a weight "
        f"({Distilling.field_of(name)}) {pull.times:.0f} times smaller would make them equal"
        for name, pull in found.items()
        if pull.drowns
    ]
