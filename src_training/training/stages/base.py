"""What every stage of a run has: what it trains, what it freezes, how it is scored."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from src_training.data.preprocessing.geometry import PADDING, PreparedImage
from src_training.data.sampling import Batch
from src_training.evaluation.dice_curve import dice_curve
from src_training.networks.base import SegmentationNetwork

SEGMENTATION = "segmentation"
"""Namespace of the losses from masks."""

Value = TypeVar("Value")


def namespaced(namespace: str, values: Mapping[str, Value]) -> dict[str, Value]:
    """Prefix the names of losses with what defines them, as in ``segmentation/ce``.

    >>> namespaced("segmentation", {"ce": 1.0})
    {'segmentation/ce': 1.0}
    """
    return {f"{namespace}/{name}": value for name, value in values.items()}


@dataclass(frozen=True)
class Validation:
    """The validation cases of a run, on the networks' grid.

    Attributes
    ----------
    images
        Whole images with masks, for scores of segmentations.
    patches
        Fixed, unaugmented patches, for scores of losses.
    """

    images: list[PreparedImage]
    patches: Batch


class Stage(nn.Module, ABC):
    """One stage of a run.

    Parameters
    ----------
    name
        Its name in `STAGES`.
    trained
        The module that is trained, and that the checkpoint of the best
        validation holds.
    frozen
        Modules that are passed through but never changed: neither parameters
        nor running statistics. Gradients still flow through them.
    weights
        Weight of each loss by name; 1 where missing.
    views
        Augmented views of each sample that `forward` needs.

    Attributes
    ----------
    saves_snapshots
        Whether snapshots of its weights are written; see `snapshot_steps`.
    """

    saves_snapshots: ClassVar[bool] = False

    def __init__(
        self,
        name: str,
        trained: nn.Module,
        frozen: Sequence[nn.Module] = (),
        weights: dict[str, float] | None = None,
        views: int = 0,
    ) -> None:
        super().__init__()
        self.name = name
        self.trained = trained
        self.frozen = nn.ModuleList(frozen)
        self.weights = weights or {}
        self.views = views
        for parameter in trained.parameters():
            parameter.requires_grad_(True)
        for parameter in self.frozen.parameters():
            parameter.requires_grad_(False)

    def prepare(self, batch: Batch) -> Batch:
        """What else it needs of a whole batch, before that is shared among processes."""
        return batch

    @abstractmethod
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Unweighted scalar losses by name: means over samples, or of the whole batch."""

    @property
    def trainable_state(self) -> nn.Module:
        """What a checkpoint needs to resume: `trained`, and what is trained beside it."""
        return self.trained

    def param_groups(self) -> list[dict[str, Any]]:
        """The parameter groups of the optimiser."""
        return [{"params": trainable_parameters(self.trained)}]

    @property
    def segmentation_network(self) -> SegmentationNetwork | None:
        """The network that is trained to segment; None where the stage has none."""
        return None

    def total(self, losses: dict[str, Tensor]) -> Tensor:
        """The weighted sum of the losses, which is minimised."""
        return torch.stack(list(self.weighted(losses).values())).sum()

    def weighted(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """Each loss times its weight."""
        return {name: self.weights.get(name, 1.0) * loss for name, loss in losses.items()}

    def score(self, validation: Validation) -> float:
        """How good `trained` is on the validation cases; more is better.

        Mean Dice where the stage trains a segmentation network; otherwise minus
        the total loss on the fixed patches.
        """
        if self.segmentation_network is not None:
            return mean_dice(self.segmentation_network, validation.images)
        return -float(self.total(self(validation.patches)))

    def train(self, mode: bool = True) -> "Stage":
        """Switch `trained` to training or evaluation; what is frozen stays in evaluation mode."""
        super().train(mode)
        self.frozen.eval()
        return self


def trainable_parameters(module: nn.Module) -> list[nn.Parameter]:
    """The parameters of a module that an optimiser may change."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def mean_dice(network: SegmentationNetwork, images: list[PreparedImage]) -> float:
    """Mean Dice on the prepared grid inside the field of view, at the best threshold.

    The mean is over foreground classes and images; a class that is absent from
    both mask and prediction is left out, and the score is 0 where all are. The
    threshold is the one with the highest mean: a network separates the
    classes before its probabilities are calibrated, and its threshold is
    chosen when it is trained.
    """
    device = next(network.parameters()).device
    curves = []
    for image in images:
        pixels = torch.from_numpy(image.padded)[None].to(device)
        maps = network(pixels)[0, :, PADDING:-PADDING, PADDING:-PADDING].float().softmax(0)
        curves.append(dice_curve(maps.cpu().numpy(), image.mask_or_background(), image.fov))
    means = np.ma.masked_invalid(curves).mean(axis=0)
    return float(np.ma.max(means)) if means.count() else 0.0
