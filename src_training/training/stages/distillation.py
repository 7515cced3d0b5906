"""The stages in which a teacher teaches: its paraphraser, and the student itself."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from src_training.alignment.alignment_network import AlignmentNetwork
from src_training.config.recipe import Distilling
from src_training.data.sampling import Batch
from src_training.distillation import METHODS, Distillation
from src_training.distillation.base import ForwardOutputs
from src_training.distillation.dcgd import DCGD
from src_training.errors import InputError
from src_training.losses.segmentation import WEIGHTS, Supervision, supervised_losses
from src_training.networks.base import SegmentationNetwork, Skips
from src_training.runs.directory import STAGES
from src_training.training.distributed.whole_batch import all_gather_samples, gather_inputs
from src_training.training.stages.base import Stage, Validation, mean_dice, trainable_parameters


class Paraphrase(Stage):
    """Paraphrasers learn, unsupervised, to say the teacher's features.

    Parameters
    ----------
    distillations
        Those that have a paraphraser.
    teacher
        Is passed through.
    """

    def __init__(self, distillations: Sequence[Distillation], teacher: SegmentationNetwork) -> None:
        paraphrasers = nn.ModuleList(each.paraphraser for each in distillations)
        super().__init__("paraphraser", paraphrasers, [teacher])
        self._paraphrasers = [each.paraphraser for each in distillations]
        self._teacher, self._taps = teacher, _taps_of(distillations)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """``reconstruction`` of the features, summed over the distillations."""
        with torch.no_grad(), self._teacher.tapped(*self._taps) as taps:
            self._teacher(batch.image)
        distances = [paraphraser.reconstruction(taps) for paraphraser in self._paraphrasers]
        return {"reconstruction": torch.stack(distances).sum()}


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
        Views of each sample (K), for distillations that compare them.
    supervision
        What the student learns from masks; see `supervised_losses`.
    """

    keeps: ClassVar[bool] = True

    def __init__(
        self,
        student: tuple[SegmentationNetwork, AlignmentNetwork],
        teacher: tuple[SegmentationNetwork, AlignmentNetwork],
        distillations: Sequence[Distillation],
        weights: dict[str, float],
        views: int,
        supervision: Supervision,
    ) -> None:
        paraphrasers = [each.paraphraser for each in distillations if each.paraphrases]
        super().__init__(
            "distil",
            student[0],
            [student[1], *teacher, *paraphrasers],
            WEIGHTS[supervision] | weights,
            views if any(each.views or each.predicts_views for each in distillations) else 0,
        )
        self._student, self._teacher = student, teacher
        self._distillations = distillations
        self.distillations = nn.ModuleList(distillations)
        self._beside = [each for each in distillations if trainable_parameters(each)]
        self._taps = _taps_of(distillations)
        self._compares_views = any(each.views for each in distillations)
        self._predicts_views = any(each.predicts_views for each in distillations)
        self._supervision: Supervision = supervision

    @property
    def learning(self) -> nn.Module:
        """The student, and the distillations where one learns beside it."""
        if not self._beside:
            return self.trained
        return nn.ModuleDict({"student": self.trained, "beside": nn.ModuleList(self._beside)})

    def groups(self) -> list[dict[str, Any]]:
        """The student, and each distillation that learns with what it tells Adam."""
        own = [{"params": trainable_parameters(each), **each.adam} for each in self._beside]
        return super().groups() + own

    @property
    def segmenting(self) -> SegmentationNetwork:
        """The student."""
        return self._student[0]

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Supervised losses of what is labelled, and those of each distillation."""
        with torch.no_grad():
            teacher = self._pass(*self._teacher, batch, self._compares_views)
            if self._predicts_views:
                teacher = replace(teacher, plain_logits=self._teacher[0](batch.plain))
        student = self._pass(*self._student, batch, bool(self.views), self._predicts_views)
        labelled = all_gather_samples(student.logits[: len(batch.mask)])
        mask = all_gather_samples(batch.mask)
        losses = supervised_losses(labelled, mask, self._supervision)
        for distillation in self._distillations:
            losses |= distillation(*gather_inputs(distillation, teacher, student, batch.mask))
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
        self,
        network: SegmentationNetwork,
        alignment: AlignmentNetwork,
        batch: Batch,
        sees_views: bool,
        decodes_views: bool = False,
    ) -> ForwardOutputs:
        """Encode anchors, and views with them; decode the anchors, and views if asked to."""
        count, views = len(batch.image), batch.views if sees_views else None
        images = batch.image if views is None else torch.cat([batch.image, views])
        with network.tapped(*self._taps) as taps:
            skips, bottleneck = network.encode(images)
            anchors = Skips(tuple(feature[:count] for feature in skips.features), skips.size)
            if decodes_views:
                logits = network.decode(skips, bottleneck)
            else:
                logits = network.decode(anchors, bottleneck[:count])
        vectors = view_logits = None
        if self._compares_views:
            flat = alignment.encoder(bottleneck)
            of_views = flat[count:].unflatten(0, (count, self.views))
            vectors = torch.cat([flat[:count, None], of_views], dim=1)
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


def taught_by(distilling: Distilling) -> dict[type[Distillation], dict[str, float]]:
    """Each distillation that a recipe sums, and the weight of each of its losses.

    One whose losses all weigh nothing is left out.
    """
    found: dict[type[Distillation], dict[str, float]] = {}
    for method, factor in distilling.methods.items():
        for part in METHODS[method].parts:
            own = {name: factor * distilling.weight(name) for name in part.weights}
            if any(own.values()):
                known = found.get(part, {})
                found[part] = {name: known.get(name, 0.0) + own[name] for name in own}
    return found


def distillations_of(
    distilling: Distilling, teacher: SegmentationNetwork, student: SegmentationNetwork
) -> tuple[list[Distillation], dict[str, float]]:
    """The distillations of `taught_by`, made for two networks, and the weights of all losses.

    Raises
    ------
    InputError
        If a distillation cannot teach this student, see `GraphFlow.for_pair`;
        or if nothing teaches it.
    """
    if not (taught := taught_by(distilling)):
        methods = " and ".join(name for name, factor in distilling.methods.items() if factor)
        raise InputError(
            f"distilling: every loss of {methods} weighs 0; expected one that weighs something"
        )
    weights = {name: weight for own in taught.values() for name, weight in own.items()}
    return [_made(part, distilling, teacher, student) for part in taught], weights


def _made(
    part: type[Distillation],
    how: Distilling,
    teacher: SegmentationNetwork,
    student: SegmentationNetwork,
) -> Distillation:
    if part is DCGD:
        return DCGD(how.edge_loss, how.scope, how.temperature, how.centred)
    return part.for_pair(teacher, student)


def stage_names(distilling: Distilling) -> tuple[str, ...]:
    """The stages of a run, in their order: `STAGES`, and ``paraphraser`` where a method has one."""
    before, last = STAGES[:-1], STAGES[-1]
    paraphrases = any(part.paraphrases for part in taught_by(distilling))
    return (*before, *(["paraphraser"] if paraphrases else []), last)


def _taps_of(distillations: Sequence[Distillation]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(tap for each in distillations for tap in each.taps))
