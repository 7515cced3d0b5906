"""Whether one loss drowns the masks: the gradients that a student gets from each."""

import copy

import torch
from lightning_fabric import Fabric
from torch import Tensor

from src_training.data.patches import Batch
from src_training.recipe import Distilling, Supervision
from src_training.training.distilling import Distil
from src_training.training.stages import learnable
from src_training.training.supervision import WEIGHTS

LOUD = 5.0
"""From how many times the gradient of the masks a loss is spoken of."""

SAMPLES = 8
"""A batch that tells: at most as many as these."""


def gradient_ratios(
    stage: Distil, batch: Batch, supervision: Supervision, fabric: Fabric
) -> dict[str, float]:
    """How strongly each distillation pulls at the student, beside the masks.

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
        Loss -> norm of its weighted gradient at the student's parameters,
        over the norm of that of all losses from masks.
    """
    probe = fabric.to_device(copy.deepcopy(stage)).train()
    with fabric.autocast():
        weighted = probe.weighted(probe(batch))
    parameters = learnable(probe.trained)

    def norm(loss: Tensor) -> float:
        if not loss.requires_grad:
            return 0.0
        found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        each = [gradient.norm() for gradient in found if gradient is not None]
        return float(torch.stack(each).norm()) if each else 0.0

    masks = norm(torch.stack([weighted.pop(name) for name in WEIGHTS[supervision]]).sum())
    return {name: norm(loss) / masks for name, loss in weighted.items()} if masks else {}


def loud_in_words(ratios: dict[str, float]) -> list[str]:
    """A sentence for each loss that drowns the masks."""
    return [
        f"The gradient of {name} is {ratio:.0f} times that of the masks, of which the student "
        f"then learns little; a weight ({Distilling.field_of(name)}) {ratio:.0f} times smaller "
        "would make them equal"
        for name, ratio in ratios.items()
        if ratio >= LOUD
    ]
