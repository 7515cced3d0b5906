"""The stages of a run: what each trains, what it freezes, what its losses are."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src_training.alignment.alignment_network import AlignmentNetwork
from src_training.alignment.consistency import AlignmentConsistency, alignment_losses
from src_training.alignment.semantic_autoencoder import SemanticAutoencoder
from src_training.data.preprocessing.geometry import PADDING
from src_training.data.sampling import Batch, PreparedCase
from src_training.evaluation.thresholds import dice_curve
from src_training.losses.segmentation import (
    WEIGHTS,
    Supervision,
    region_dice_loss,
    supervised_losses,
)
from src_training.networks.base import SegmentationNetwork
from src_training.training.distributed.whole_batch import all_gather_samples

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
    """The validation split of the source, on the networks' grid.

    Attributes
    ----------
    cases
        Whole images, for scores of segmentations.
    patches
        Fixed, unaugmented patches, for scores of losses.
    """

    cases: list[PreparedCase]
    patches: Batch


class Stage(nn.Module, ABC):
    """One step of the method.

    Parameters
    ----------
    name
        Of the stage, and of its folder in the run.
    trained
        What learns, and what the checkpoint holds.
    frozen
        What is passed through but never changed: neither parameters nor
        running statistics. Gradients still flow through it.
    weights
        Weight of each loss by name; 1 where missing.
    views
        Further views of each sample that `forward` needs.

    Attributes
    ----------
    keeps
        Whether its weights are kept along its course; see `snapshot_steps`.
    """

    keeps: ClassVar[bool] = False

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

    @abstractmethod
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Unweighted losses by name, scalars: means over samples, or of the whole batch."""

    @property
    def learning(self) -> nn.Module:
        """What has to be kept to go on: `trained`, and what learns beside it."""
        return self.trained

    def groups(self) -> list[dict[str, Any]]:
        """What Adam is to change, as its parameter groups."""
        return [{"params": trainable_parameters(self.trained)}]

    @property
    def segmenting(self) -> SegmentationNetwork | None:
        """The network that learns to segment; None where the stage has none."""
        return None

    def total(self, losses: dict[str, Tensor]) -> Tensor:
        """The weighted sum that is minimised."""
        return torch.stack(list(self.weighted(losses).values())).sum()

    def weighted(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """Its terms."""
        return {name: self.weights.get(name, 1.0) * loss for name, loss in losses.items()}

    def score(self, validation: Validation) -> float:
        """How good `trained` is on the validation split; more is better.

        Minus the total loss on the fixed patches, unless a stage knows better.
        """
        return -float(self.total(self(validation.patches)))

    def train(self, mode: bool = True) -> "Stage":
        """Switch `trained`; what is frozen stays in evaluation mode."""
        super().train(mode)
        self.frozen.eval()
        return self


class Supervised(Stage):
    """A network learns from masks alone: the teacher, and the student alone.

    Parameters
    ----------
    name
        ``teacher``, ``student`` or ``alone``.
    network
        What learns.
    supervision
        By which losses; see `supervised_losses`.
    """

    def __init__(self, name: str, network: SegmentationNetwork, supervision: Supervision) -> None:
        super().__init__(name, network, weights=namespaced(SEGMENTATION, WEIGHTS[supervision]))
        self.network = network
        self._supervision: Supervision = supervision

    @property
    def segmenting(self) -> SegmentationNetwork:
        """The network."""
        return self.network

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Those of `supervised_losses`, of the whole batch."""
        logits = all_gather_samples(self.trained(batch.image))
        losses = supervised_losses(logits, all_gather_samples(batch.mask), self._supervision)
        return namespaced(SEGMENTATION, losses)

    def score(self, validation: Validation) -> float:
        """Mean Dice of the foreground classes over the validation images."""
        return mean_dice(self.network, validation.cases)


class MaskAutoencoder(Stage):
    """P-SAE (GKD, arXiv 2207.12995), first phase: its convolutions learn to reproduce masks.

    Parameters
    ----------
    autoencoder
        Its encoder and decoder learn; its perceptron stays as it is.
    """

    def __init__(self, autoencoder: SemanticAutoencoder) -> None:
        super().__init__("autoencoder", autoencoder)
        self.autoencoder = autoencoder
        # The perceptron is the second phase's.
        autoencoder.alignment.requires_grad_(False)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """``bce`` and ``dice`` of the reproduced regions, of the whole batch."""
        regions = all_gather_samples(self.autoencoder.regions(batch.mask))
        seen = self.autoencoder.read(batch.mask, batch.image)
        logits = all_gather_samples(self.autoencoder.decode(self.autoencoder.encode(seen)))
        return {
            "autoencoder/bce": F.binary_cross_entropy_with_logits(logits, regions),
            "autoencoder/dice": region_dice_loss(logits.sigmoid(), regions),
        }


class MaskVectors(Stage):
    """P-SAE, second phase: its perceptron learns to carry a bottleneck in one vector.

    Parameters
    ----------
    autoencoder
        Its perceptron learns; its encoder and decoder are frozen.
    """

    def __init__(self, autoencoder: SemanticAutoencoder) -> None:
        super().__init__(
            "vectors", autoencoder.alignment, [autoencoder.encoder, autoencoder.decoder]
        )
        self.autoencoder = autoencoder

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Mean squared error of the bottleneck, and ``bce`` of what is decoded from it."""
        regions = self.autoencoder.regions(batch.mask)
        bottleneck = self.autoencoder.encode(self.autoencoder.read(batch.mask, batch.image))
        rebuilt = self.trained(bottleneck)
        logits = self.autoencoder.decode(rebuilt)
        return {
            "autoencoder/reconstruction": F.mse_loss(rebuilt, bottleneck),
            "autoencoder/bce": F.binary_cross_entropy_with_logits(logits, regions),
        }


class Alignment(Stage):
    """ACT (GKD, arXiv 2207.12995): a TAN or a SAN learns on its frozen network.

    Parameters
    ----------
    name
        ``tan`` or ``san``.
    alignment
        What learns.
    network, autoencoder
        Whose bottlenecks are aligned, and P-SAE, to whose vectors; both frozen.
    consistency
        Weights and form of the losses.
    """

    def __init__(
        self,
        name: str,
        alignment: AlignmentNetwork,
        network: SegmentationNetwork,
        autoencoder: SemanticAutoencoder,
        consistency: AlignmentConsistency,
    ) -> None:
        with_views = consistency.consistency == "views"
        super().__init__(
            name,
            alignment,
            [network, autoencoder],
            namespaced("alignment", consistency.weights),
            int(with_views),
        )
        self._parts = (alignment, network, autoencoder)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The losses of `alignment_losses`."""
        alignment, network, autoencoder = self._parts
        with torch.no_grad():
            skips, bottleneck = network.encode(batch.image)
            logits = network.decode(skips, bottleneck)
            prior = autoencoder.vectors(batch.mask, batch.image)
        vector = alignment.encoder(bottleneck)
        rebuilt = alignment.header(vector)
        view_vector = None
        if self.views and batch.views is not None:
            with torch.no_grad():
                view_bottleneck = network.encode(batch.views)[1]
            view_vector = alignment.encoder(view_bottleneck)
        losses = alignment_losses(
            bottleneck,
            rebuilt,
            vector,
            prior,
            logits,
            network.decode(skips, rebuilt),
            batch.mask,
            view_vector,
        )
        return namespaced("alignment", losses)


def trainable_parameters(module: nn.Module) -> list[nn.Parameter]:
    """The parameters of a module that are to learn."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def mean_dice(network: SegmentationNetwork, cases: list[PreparedCase]) -> float:
    """Dice inside the field of view on the prepared grid, at the threshold that is best for it.

    Mean over classes and cases; a class that is absent from both mask and
    prediction is left out; 0 where all are. A network learns to tell pixels
    apart before it learns where 0.5 lies, and the threshold is chosen once it
    is trained.
    """
    device = next(network.parameters()).device
    curves = []
    for case in cases:
        image = torch.from_numpy(case.image.padded)[None].to(device)
        maps = network(image)[0, :, PADDING:-PADDING, PADDING:-PADDING].float().softmax(0)
        curves.append(dice_curve(maps.cpu().numpy(), case.mask, case.fov))
    told = np.ma.masked_invalid(curves).mean(axis=0)
    return float(np.ma.max(told)) if told.count() else 0.0
