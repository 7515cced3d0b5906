"""The stages of distillation: one trains paraphrasers, the next the student."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from src_training.alignment.alignment_network import AlignmentNetwork
from src_training.data.sampling import Batch, mix_pairs
from src_training.distillation import Distillation
from src_training.distillation.base import ForwardOutputs
from src_training.distillation.gkd.dicd import frozen_running_statistics
from src_training.inference.external.networks import turned_mean
from src_training.losses.segmentation import WEIGHTS, Supervision
from src_training.networks.base import SegmentationNetwork, Skips
from src_training.training.distributed.sync_batch import gather_inputs
from src_training.training.stages.base import (
    SEGMENTATION,
    Stage,
    add_namespace,
    trainable_parameters,
)
from src_training.training.stages.supervised import losses_from_masks

if TYPE_CHECKING:
    from src_training.training.builders import Networks


_MIN_PROBABILITY = 1e-30
"""Lower bound of probabilities before their logarithm is taken."""


class ParaphraserStage(Stage):
    """Trains paraphrasers, unsupervised, to compress teacher features to the student's channels.

    Parameters
    ----------
    distillations
        Distillations with a paraphraser.
    teacher
        Network whose features are compressed; frozen.
    """

    def __init__(
        self, distillations: Sequence[Distillation[Any]], teacher: SegmentationNetwork
    ) -> None:
        paraphrasers = nn.ModuleList(each.paraphraser for each in distillations)
        super().__init__("paraphraser", paraphrasers, [teacher])
        self._paraphrasers = [each.paraphraser for each in distillations]
        self._teacher, self._taps = teacher, _teacher_taps(distillations)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the ``reconstruction`` loss of the features, summed over the distillations."""
        with torch.no_grad(), self._teacher.collect_taps(*self._taps) as taps:
            self._teacher(batch.image)
        distances = [paraphraser.reconstruction(taps) for paraphraser in self._paraphrasers]
        return {"paraphraser/reconstruction": torch.stack(distances).sum()}


class DistillationStage(Stage):
    """Trains the student from masks and from the teacher.

    Parameters
    ----------
    student, teacher
        Network, and its alignment network.
    distillations
        Distillation losses; see `build_distillations`.
    supervision
        Supervised losses of the student; see `supervised_losses`.
    flips
        Whether the teacher's predictions of unaugmented patches are means over flips and turns.
    """

    saves_snapshots: ClassVar[bool] = True

    def __init__(
        self,
        student: tuple[SegmentationNetwork, AlignmentNetwork],
        teacher: tuple[SegmentationNetwork, AlignmentNetwork],
        distillations: Sequence[Distillation[Any]],
        supervision: Supervision,
        flips: bool = False,
    ) -> None:
        paraphrasers = [each.paraphraser for each in distillations if each.has_paraphraser]
        super().__init__(
            "distil",
            student[0],
            [student[1], *teacher, *paraphrasers],
            _weights(distillations, supervision),
            max((each.views for each in distillations), default=0),
        )
        self._student, self._teacher = student, teacher
        self._distillations = distillations
        self.distillations = nn.ModuleList(distillations)
        self._trainable = [each for each in distillations if trainable_parameters(each)]
        self._taps = tuple(dict.fromkeys(tap for each in distillations for tap in each.taps))
        self._teacher_taps = _teacher_taps(distillations)
        self._reads_vectors = any(each.reads_vectors for each in distillations)
        self._reads_anchors = any(each.reads_anchors for each in distillations)
        self._predicts_views = any(each.predicts_views and each.views for each in distillations)
        self._sees_plain = any(each.sees_plain for each in distillations)
        self._mixes = [each for each in distillations if each.mixes]
        self._supervision: Supervision = supervision
        self._flips = flips

    @property
    def trainable_state(self) -> nn.Module:
        """The student, and the distillations with trainable parameters."""
        if not self._trainable:
            return self.trained
        # The keys are part of the checkpoint format.
        return nn.ModuleDict({"student": self.trained, "beside": nn.ModuleList(self._trainable)})

    def param_groups(self) -> list[dict[str, Any]]:
        """The student, and each trainable distillation with its own Adam settings."""
        groups = [{"params": trainable_parameters(each), **each.adam} for each in self._trainable]
        return super().param_groups() + groups

    @property
    def segmentation_network(self) -> SegmentationNetwork:
        """The student."""
        return self._student[0]

    def prepare(self, batch: Batch) -> Batch:
        """Mix pairs of anchors, if a distillation needs mixed patches."""
        return mix_pairs(batch) if self._mixes else batch

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the supervised losses of the labelled samples, and the distillation losses."""
        student = self._forward(*self._student, batch, bool(self.views), self._predicts_views)
        if batch.mixed is not None:
            # Mixed patches are no real images: they must not change the running statistics that
            # are used for inference.
            with frozen_running_statistics(student.network):
                mixed = student.network(batch.mixed.image)
            student = replace(
                student,
                mixed_logits=mixed,
                mixed_share=batch.mixed.share,
                partner_mask=batch.mixed.partner_mask,
            )
        with torch.no_grad():
            teacher = self._teach(batch, student)
        auxiliary = [student.taps[tap] for tap in student.network.auxiliary_taps]
        losses = losses_from_masks(student.logits, auxiliary, batch.mask, self._supervision)
        for each in self._distillations:
            outputs = teacher.with_views(each.views), student.with_views(each.views)
            values = each(*gather_inputs(each, *outputs, batch.mask))
            losses |= add_namespace(each.options.method, values)
        return losses

    def _teach(self, batch: Batch, student: ForwardOutputs) -> ForwardOutputs:
        """Outputs of the teacher that distillations read; other fields are the student's."""
        network, alignment = self._teacher
        teacher = replace(student, network=network, alignment=alignment)
        if self._reads_anchors:
            teacher = self._forward(network, alignment, batch, self._reads_vectors)
        if self._sees_plain:
            teacher = replace(teacher, plain_logits=self._predict_plain(batch.unaugmented))
        if batch.mixed is None or not any(each.reads_teacher for each in self._mixes):
            return teacher
        if not any(each.sees_plain for each in self._mixes):
            return replace(teacher, mixed_logits=network(batch.mixed.image))
        assert teacher.plain_logits is not None
        pair = teacher.plain_logits, self._predict_plain(batch.mixed.partner)
        anchor, partner = (logits.float().softmax(1) for logits in pair)
        mixed = torch.lerp(partner, anchor, batch.mixed.share.float())
        # The softmax of log-probabilities is the probabilities, so they can serve as logits.
        return replace(teacher, mixed_logits=mixed.clamp(min=_MIN_PROBABILITY).log())

    def _predict_plain(self, images: Tensor | None) -> Tensor:
        """Teacher logits of patches without style augmentation."""
        network = self._teacher[0]
        assert images is not None
        logits: Tensor = turned_mean(network, images) if self._flips else network(images)
        return logits

    def vectors(self, images: Tensor) -> Tensor:
        """Return the student's semantic vectors (B, latent) of images (B, C, patch, patch)."""
        network, alignment = self._student
        vectors: Tensor = alignment.encoder(network.encode(images)[1])
        return vectors

    def _forward(
        self,
        network: SegmentationNetwork,
        alignment: AlignmentNetwork,
        batch: Batch,
        encodes_views: bool,
        decodes_views: bool = False,
    ) -> ForwardOutputs:
        """Encode and decode the anchors, and optionally encode and decode their views."""
        count, views = len(batch.image), batch.views if encodes_views else None
        images = batch.image if views is None else torch.cat([batch.image, views])
        names = self._taps if network is self._student[0] else self._teacher_taps
        with network.collect_taps(*names, *network.auxiliary_taps) as taps:
            skips, bottleneck = network.encode(images)
            anchors = Skips(tuple(feature[:count] for feature in skips.features), skips.size)
            if decodes_views:
                logits = network.decode(skips, bottleneck)
            else:
                logits = network.decode(anchors, bottleneck[:count])
        vectors = view_logits = None
        if self._reads_vectors:
            flat = alignment.encoder(bottleneck)
            view_vectors = flat[count:].unflatten(0, (count, self.views))
            vectors = torch.cat([flat[:count, None], view_vectors], dim=1)
        if decodes_views:
            view_logits = logits[count:].reshape(count, self.views, *logits.shape[1:])
        return ForwardOutputs(
            network,
            alignment,
            anchors,
            bottleneck[:count],
            logits[:count],
            vectors,
            {tap: feature[:count] for tap, feature in taps.items()},
            view_logits,
        )


def build_paraphraser(networks: "Networks") -> ParaphraserStage:
    """The stage ``paraphraser``, on the trained teacher."""
    paraphrasing = [each for each in networks.distillations if each.has_paraphraser]
    return ParaphraserStage(paraphrasing, networks.teacher)


def build_distillation(networks: "Networks") -> DistillationStage:
    """The stage ``distil``, on the trained student unless the recipe starts from scratch."""
    recipe = networks.recipe
    if recipe.distil_from == "student":
        networks.distilled.load_state_dict(networks.student.state_dict())
    return DistillationStage(
        (networks.distilled, networks.san),
        (networks.teacher, networks.tan),
        networks.distillations,
        recipe.supervised,
        recipe.teacher.flips,
    )


def _weights(
    distillations: Sequence[Distillation[Any]], supervision: Supervision
) -> dict[str, float]:
    """Namespaced name of each loss -> weight."""
    weights = add_namespace(SEGMENTATION, WEIGHTS[supervision])
    for part in distillations:
        added = add_namespace(part.options.method, part.weights(part.options))
        if both := weights.keys() & added.keys():
            raise ValueError(f"two losses are called {min(both)}; expected different names")
        weights |= added
    return weights


def _teacher_taps(distillations: Sequence[Distillation[Any]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(tap for each in distillations for tap in each.teacher_taps))
