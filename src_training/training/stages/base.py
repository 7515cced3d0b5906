"""Base class of the stages of a run."""

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


def add_namespace(namespace: str, values: Mapping[str, Value]) -> dict[str, Value]:
    """Prefix names of losses with a namespace, as in ``segmentation/ce``.

    >>> add_namespace("segmentation", {"ce": 1.0})
    {'segmentation/ce': 1.0}
    """
    return {f"{namespace}/{name}": value for name, value in values.items()}


@dataclass(frozen=True)
class Validation:
    """The validation cases of a run, prepared for the networks.

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
        Name of the stage in `STAGES`.
    trained
        Module that is trained, and that the best checkpoint contains.
    frozen
        Modules whose parameters and running statistics do not change. Gradients still flow
        through them.
    weights
        Loss name -> weight; 1 for missing names.
    views
        Number of augmented views of each sample that `forward` needs.

    Attributes
    ----------
    saves_snapshots
        Whether `fit` writes snapshots of the weights; see `snapshot_steps`.
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
        """Transform a whole batch before it is split over processes; by default unchanged."""
        return batch

    @abstractmethod
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the losses.

        Returns
        -------
        dict of str to Tensor
            Loss name -> unweighted scalar, a mean over samples or a loss of the whole batch.
        """

    @property
    def trainable_state(self) -> nn.Module:
        """The module whose state a checkpoint needs to resume: `trained`, and other parameters."""
        return self.trained

    def param_groups(self) -> list[dict[str, Any]]:
        """The parameter groups of the optimiser."""
        return [{"params": trainable_parameters(self.trained)}]

    @property
    def segmentation_network(self) -> SegmentationNetwork | None:
        """The segmentation network that the stage trains, if it does."""
        return None

    def total(self, losses: dict[str, Tensor]) -> Tensor:
        """Return the weighted sum of the losses, which is minimised."""
        return torch.stack(list(self.weighted(losses).values())).sum()

    def weighted(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """Multiply each loss by its weight."""
        return {name: self.weights.get(name, 1.0) * loss for name, loss in losses.items()}

    def score(self, validation: Validation) -> float:
        """Score `trained` on the validation cases; higher is better.

        The score is the mean Dice if the stage trains a segmentation network, and minus
        the total loss on the fixed patches otherwise.
        """
        if self.segmentation_network is not None:
            return mean_dice(self.segmentation_network, validation.images)
        return -float(self.total(self(validation.patches)))

    def train(self, mode: bool = True) -> "Stage":
        """Set the mode of `trained`; frozen modules stay in evaluation mode."""
        super().train(mode)
        self.frozen.eval()
        return self


def trainable_parameters(module: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of a module that require a gradient."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def mean_dice(network: SegmentationNetwork, images: list[PreparedImage]) -> float:
    """Mean Dice on the prepared images inside the field of view, at the best threshold.

    The mean is over foreground classes and images. A class that is absent from
    both mask and prediction does not count, and the score is 0 if none counts. The
    threshold with the highest mean is used, because probabilities are calibrated, and the
    threshold is chosen, only after training.
    """
    device = next(network.parameters()).device
    curves = []
    for image in images:
        pixels = torch.from_numpy(image.padded)[None].to(device)
        maps = network(pixels)[0, :, PADDING:-PADDING, PADDING:-PADDING].float().softmax(0)
        curves.append(dice_curve(maps.cpu().numpy(), image.mask_or_background(), image.fov))
    means = np.ma.masked_invalid(curves).mean(axis=0)
    return float(np.ma.max(means)) if means.count() else 0.0
