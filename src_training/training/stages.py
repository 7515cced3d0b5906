"""The stages of a run: what each trains, what it freezes, what its losses are."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src_training.alignment.act import AlignmentConsistency, alignment_losses
from src_training.alignment.autoencoder import SemanticAutoencoder, regions_of
from src_training.alignment.msan import AlignmentNetwork
from src_training.data.patches import Batch, PreparedCase
from src_training.data.preprocess import FRAME
from src_training.distillation.base import Distillation, Pass
from src_training.evaluation.thresholds import dice_curve
from src_training.networks.base import SegmentationNetwork, Skips


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
        Whether its weights are kept along its course; see `kept_steps`.
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
        """Unweighted losses by name, scalars."""

    @property
    def segmenting(self) -> SegmentationNetwork | None:
        """The network that learns to segment; None where the stage has none."""
        return None

    def total(self, losses: dict[str, Tensor]) -> Tensor:
        """The weighted sum that is minimised."""
        return torch.stack([self.weights.get(n, 1.0) * loss for n, loss in losses.items()]).sum()

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
    """A network learns from masks alone: the teacher, and the student alone."""

    def __init__(self, name: str, network: SegmentationNetwork, with_dice: bool) -> None:
        super().__init__(name, network)
        self.network = network
        self._with_dice = with_dice

    @property
    def segmenting(self) -> SegmentationNetwork:
        """The network."""
        return self.network

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """``ce``, and ``dice`` where asked for."""
        return supervised_losses(self.trained(batch.image), batch.mask, self._with_dice)

    def score(self, validation: Validation) -> float:
        """Mean Dice of the foreground classes over the validation images."""
        return mean_dice(self.network, validation.cases)


class MaskAutoencoder(Stage):
    """P-SAE, first phase: its convolutions learn to reproduce masks."""

    def __init__(self, autoencoder: SemanticAutoencoder) -> None:
        super().__init__("autoencoder", autoencoder)
        self.autoencoder = autoencoder
        # The perceptron is the second phase's.
        autoencoder.alignment.requires_grad_(False)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """``bce`` and ``dice`` of the reproduced regions."""
        regions = regions_of(batch.mask, self.autoencoder.foreground)
        logits = self.autoencoder.decode(self.autoencoder.encode(regions))
        return {
            "bce": F.binary_cross_entropy_with_logits(logits, regions),
            "dice": region_dice_loss(logits.sigmoid(), regions),
        }


class MaskVectors(Stage):
    """P-SAE, second phase: its perceptron learns to carry a bottleneck in one vector."""

    def __init__(self, autoencoder: SemanticAutoencoder) -> None:
        super().__init__(
            "vectors", autoencoder.alignment, [autoencoder.encoder, autoencoder.decoder]
        )
        self.autoencoder = autoencoder

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """``rebuilt`` of the bottleneck, ``bce`` of what is decoded from it."""
        regions = regions_of(batch.mask, self.autoencoder.foreground)
        bottleneck = self.autoencoder.encode(regions)
        rebuilt = self.trained(bottleneck)
        logits = self.autoencoder.decode(rebuilt)
        return {
            "rebuilt": F.mse_loss(rebuilt, bottleneck),
            "bce": F.binary_cross_entropy_with_logits(logits, regions),
        }


class Alignment(Stage):
    """ACT: a TAN or a SAN learns on its frozen network."""

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
            name, alignment, [network, autoencoder], consistency.weights, int(with_views)
        )
        self._parts = (alignment, network, autoencoder)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The losses of `alignment_losses`."""
        alignment, network, autoencoder = self._parts
        with torch.no_grad():
            skips, bottleneck = network.encode(batch.image)
            logits = network.decode(skips, bottleneck)
            prior = autoencoder.vectors(batch.mask)
        vector = alignment.encoder(bottleneck)
        rebuilt = alignment.header(vector)
        view_vector = None
        if self.views and batch.views is not None:
            with torch.no_grad():
                view_bottleneck = network.encode(batch.views)[1]
            view_vector = alignment.encoder(view_bottleneck)
        return alignment_losses(
            bottleneck,
            rebuilt,
            vector,
            prior,
            logits,
            network.decode(skips, rebuilt),
            batch.mask,
            view_vector,
        )


class Distil(Stage):
    """The student learns from masks and from the teacher.

    Parameters
    ----------
    student, teacher
        Each with its alignment network.
    distillations
        What the teacher teaches.
    weights
        Weight of each of their losses by name.
    views
        Views of each sample (K).
    with_dice
        Whether the supervised loss has soft Dice.
    """

    keeps: ClassVar[bool] = True

    def __init__(
        self,
        student: tuple[SegmentationNetwork, AlignmentNetwork],
        teacher: tuple[SegmentationNetwork, AlignmentNetwork],
        distillations: Sequence[Distillation],
        weights: dict[str, float],
        views: int,
        with_dice: bool,
    ) -> None:
        super().__init__("distil", student[0], [student[1], *teacher], weights, views)
        self._student, self._teacher = student, teacher
        self.distillations = nn.ModuleList(distillations)
        self._with_dice = with_dice

    @property
    def segmenting(self) -> SegmentationNetwork:
        """The student."""
        return self._student[0]

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Supervised losses and those of each distillation."""
        assert batch.views is not None
        images = torch.cat([batch.image, batch.views])
        count = len(batch.image)
        with torch.no_grad():
            teacher = self._pass(*self._teacher, images, count)
        student = self._pass(*self._student, images, count)
        losses = supervised_losses(student.logits, batch.mask, self._with_dice)
        for distillation in self.distillations:
            losses |= distillation(teacher, student)
        return losses

    def score(self, validation: Validation) -> float:
        """Mean Dice of the foreground classes over the validation images."""
        return mean_dice(self._student[0], validation.cases)

    def vectors(self, images: Tensor) -> Tensor:
        """Semantic vectors (B, latent) that the student makes of images (B, C, patch, patch)."""
        network, alignment = self._student
        vectors: Tensor = alignment.encoder(network.encode(images)[1])
        return vectors

    def _pass(
        self, network: SegmentationNetwork, alignment: AlignmentNetwork, images: Tensor, count: int
    ) -> Pass:
        """Encode anchors and views in one pass; decode the anchors only."""
        skips, bottleneck = network.encode(images)
        anchors = Skips(tuple(feature[:count] for feature in skips.features), skips.size)
        vectors = alignment.encoder(bottleneck)
        grouped = torch.cat(
            [vectors[:count, None], vectors[count:].unflatten(0, (count, self.views))], dim=1
        )
        logits = network.decode(anchors, bottleneck[:count])
        return Pass(network, alignment, anchors, bottleneck[:count], logits, grouped)


def supervised_losses(logits: Tensor, mask: Tensor, with_dice: bool) -> dict[str, Tensor]:
    """Cross entropy, and soft Dice (MONAI's) of the foreground where asked for.

    Parameters
    ----------
    logits
        (B, classes, H, W).
    mask
        (B, H, W), int64.
    with_dice
        Whether ``dice`` is added to ``ce``.
    """
    losses = {"ce": F.cross_entropy(logits, mask)}
    if with_dice:
        regions = regions_of(mask, logits.shape[1] - 1)
        losses["dice"] = region_dice_loss(logits.softmax(1)[:, 1:], regions)
    return losses


def region_dice_loss(probabilities: Tensor, regions: Tensor) -> Tensor:
    """Soft Dice loss over the whole batch (MONAI's): both (B, regions, H, W)."""
    from monai.losses import DiceLoss

    loss: Tensor = DiceLoss(batch=True)(probabilities, regions)
    return loss


def mean_dice(network: SegmentationNetwork, cases: list[PreparedCase]) -> float:
    """Dice inside the field of view on the prepared grid, at the threshold that is best for it.

    Mean over classes and cases; a class that is absent from both mask and
    prediction is left out. A network learns to tell pixels apart before it
    learns where 0.5 lies, and the threshold is chosen once it is trained.
    """
    device = next(network.parameters()).device
    curves = []
    for case in cases:
        image = torch.from_numpy(case.image.framed)[None].to(device)
        maps = network(image)[0, :, FRAME:-FRAME, FRAME:-FRAME].float().softmax(0)
        curves.append(dice_curve(maps.cpu().numpy(), case.mask, case.fov))
    told = np.ma.masked_invalid(curves).mean(axis=0)
    return float(np.ma.max(told)) if told.count() else 0.0
