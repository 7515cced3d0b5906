"""From a recipe to trained networks: the stages in their order."""

import copy
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch

from src_training.alignment.alignment_network import AlignmentNetwork
from src_training.alignment.semantic_autoencoder import SemanticAutoencoder
from src_training.config.recipe import Recipe
from src_training.data.augmentation import Augmenter
from src_training.data.sampling import (
    Batch,
    PatchSampler,
    Sampler,
    SemiSupervisedSampler,
    crop_patch,
    evenly_spaced,
    patch_corners,
    prepare_cases,
)
from src_training.device import training_precision
from src_training.distillation import build_distillations
from src_training.errors import InputError
from src_training.networks import SegmentationNetwork
from src_training.runs.data import load_domain, source_split, split_labelled
from src_training.runs.directory import RunDirectory
from src_training.runs.events import Event, Noted
from src_training.seeds import step_seed
from src_training.training.builders import (
    build_alignment_network,
    build_autoencoder,
    build_recipe_network,
    refuse_impossible_networks,
)
from src_training.training.callbacks import TrainingMonitor, patches_of
from src_training.training.distributed.ranks import is_first, make_fabric
from src_training.training.gradient_balance import (
    SAMPLES,
    dominance_warnings,
    gradient_ratios,
    little_to_teach,
    nothing_gained,
)
from src_training.training.pretrained import pretrained_student
from src_training.training.stages.base import (
    Alignment,
    MaskAutoencoder,
    MaskVectors,
    Stage,
    Supervised,
    Validation,
)
from src_training.training.stages.distillation import (
    Distil,
    Paraphrase,
    stage_names,
)
from src_training.training.trainer import fit

VALIDATION_PATCHES = 32
Emit = Callable[[Event], None]


@dataclass(frozen=True)
class TrainedNetworks:
    """What a run has trained, each with its best weights and in evaluation mode.

    Attributes
    ----------
    teacher, tan
        The teacher and its alignment network.
    autoencoder
        P-SAE.
    alone
        The student from masks alone, after as many steps as `distilled`.
    distilled
        The student that the teacher taught.
    san
        Of the student before it became `alone` and `distilled`; it serves both.
    """

    teacher: SegmentationNetwork
    tan: AlignmentNetwork
    autoencoder: SemanticAutoencoder
    alone: SegmentationNetwork
    distilled: SegmentationNetwork
    san: AlignmentNetwork


class Pipeline:
    """The stages of one run.

    Parameters
    ----------
    recipe, folder
        What to do, and where.
    device
        See `find_device`.
    stopping
        See `fit`.
    devices
        See `make_fabric`; beyond one, the other processes start here.

    Attributes
    ----------
    training, held_out
        Cases of the source to learn from, and those that choose checkpoints.
    tests
        Domains to report on.
    unlabelled
        What joins the stage ``distil`` without masks: recipe and domain.
    precision
        See `training_precision`.

    Raises
    ------
    InputError
        If the domains, or the model to start from, cannot be read or do not
        fit the recipe, no network or distillation is as it says, a batch has
        fewer patches than there are devices, or a device is not there.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: RunDirectory,
        device: str,
        stopping: Callable[[], bool],
        devices: int = 1,
    ) -> None:
        self.recipe, self.folder = recipe, folder
        self._stopping = stopping
        self.fabric = make_fabric(device, devices)
        self.precision = training_precision(self.fabric.device)
        self._refuse_small_batches(devices)
        training, self.held_out = source_split(recipe)
        self.training, others = split_labelled(recipe, training)
        self.tests = [load_domain(test, masks_required=False) for test in recipe.tests]
        self._refuse_other_classes()
        self.unlabelled = [
            (each, load_domain(each, masks_required=False)) for each in recipe.unlabelled
        ]
        if others is not None:
            self.unlabelled.insert(0, (recipe.source, others))
        refuse_impossible_networks(recipe, len(self.training.classes))
        self._start = pretrained_student(recipe, folder, self.training.classes)
        if devices > 1:
            self.fabric.launch()
        cases = prepare_cases(self.training, recipe.preprocessing)
        views = Augmenter(recipe.augmentation, recipe.patch)
        self._patches = PatchSampler(cases, views)
        self._taught = self._with_unlabelled(views)
        self._source = patches_of([case.image for case in cases], recipe.patch)
        self._validation = self._validation_split()

    def run(self, emit: Emit) -> None:
        """Run every stage that is not done, then write models and report; errors as `train`."""
        from src_training.runs.finalise import finalise

        finalise(self, self.train(emit))

    def train(self, emit: Emit) -> TrainedNetworks:
        """Run every stage that is not done.

        Raises
        ------
        InputError, Interrupted
            See `fit`.
        """
        recipe = self.recipe
        if self._start is not None and is_first() and not self.folder.start.exists():
            # The run does not depend on a file that may be gone when it is resumed.
            self._start.save(self.folder.start)
        watch = self._watching(emit) if is_first() else lambda _stage, _step: None
        supervision = recipe.supervised

        def learned(stage: Stage, patches: Sampler = self._patches) -> float:
            return fit(
                stage,
                recipe.plan(stage.name),
                patches,
                self._validation,
                self.folder.stage(stage.name),
                fabric=self.fabric,
                seed=recipe.seed,
                weight_decay=recipe.weight_decay,
                emit=emit,
                stopping=self._stopping,
                watch=watch,
            ).score

        teacher = self._network("teacher")
        knows = learned(Supervised("teacher", teacher, supervision))
        autoencoder = self._autoencoder()
        learned(MaskAutoencoder(autoencoder))
        learned(MaskVectors(autoencoder))
        tan = self._alignment("tan", teacher)
        learned(Alignment("tan", tan, teacher, autoencoder, recipe.alignment))
        student = self._network("student")
        if self._start is not None:
            student.load_state_dict(self._start.network.state_dict())
        learned(Supervised("student", student, supervision))
        alone = copy.deepcopy(student)
        untaught = learned(Supervised("alone", alone, supervision))
        san = self._alignment("san", student)
        learned(Alignment("san", san, student, autoencoder, recipe.alignment))
        distil = self._distil((student, san), (teacher, tan), learned)
        teaches = is_first() and recipe.stages.distil.steps > 0

        def note(sentences: list[str], step: int) -> None:
            for sentence in sentences:
                emit(Noted(stage=distil.name, step=step, sentence=sentence))

        if teaches and not self.folder.begun(distil.name):
            note([*little_to_teach(knows, untaught), *self._loud(distil)], 0)
        taught = learned(distil, self._taught)
        if teaches:
            note(nothing_gained(taught, untaught), recipe.plan(distil.name).steps)
        return TrainedNetworks(teacher, tan, autoencoder, alone, distil.segmenting, san)

    def _distil(
        self,
        student: tuple[SegmentationNetwork, AlignmentNetwork],
        teacher: tuple[SegmentationNetwork, AlignmentNetwork],
        learned: Callable[[Stage], float],
    ) -> Distil:
        """The stage that teaches a student, once the paraphrasers that it needs have learned."""
        trained, san = student
        scratch = self.recipe.distil_from == "scratch"
        taught = self._network("distil") if scratch else copy.deepcopy(trained)
        self._seed("distillations")
        distillations = build_distillations(self.recipe.distillation, teacher[0], taught)
        if paraphrased := [each for each in distillations if each.paraphrases]:
            learned(Paraphrase(paraphrased, teacher[0]))
        return Distil((taught, san), teacher, distillations, self.recipe.supervised)

    def _network(self, role: str) -> SegmentationNetwork:
        self._seed(role)
        used = self.recipe.teacher if role == "teacher" else self.recipe.student
        return build_recipe_network(self.recipe, used, len(self.training.classes))

    def _autoencoder(self) -> SemanticAutoencoder:
        self._seed("autoencoder")
        return build_autoencoder(self.recipe, len(self.training.classes))

    def _alignment(self, role: str, network: SegmentationNetwork) -> AlignmentNetwork:
        self._seed(role)
        return build_alignment_network(self.recipe, network)

    def _seed(self, role: str) -> None:
        torch.manual_seed(step_seed(self.recipe.seed, role, "start"))

    def _loud(self, stage: Distil) -> list[str]:
        """Which losses drown the masks, a sentence each."""
        self._seed("balance")
        count = min(self.recipe.stages.distil.batch, SAMPLES)
        batch = self._taught.sample(count, stage.views, self.fabric.device)
        # It takes more memory than a step; a run that a step fits goes on without it.
        with suppress(torch.OutOfMemoryError):
            found = gradient_ratios(stage, batch, self.fabric)
            return dominance_warnings(found, self.recipe.distillation)
        return []

    def _with_unlabelled(self, views: Augmenter) -> Sampler:
        """What the student is taught on: half of it unlabelled, where there are such images."""
        preprocessing = self.recipe.preprocessing
        cases = [
            case
            for _, domain in self.unlabelled
            for case in prepare_cases(domain, preprocessing, labelled=False)
        ]
        return (
            SemiSupervisedSampler(self._patches, PatchSampler(cases, views))
            if cases
            else self._patches
        )

    def _validation_split(self) -> Validation:
        cases = prepare_cases(self.held_out, self.recipe.preprocessing)
        side = self.recipe.patch
        places = [(case, corner) for case in cases for corner in patch_corners(case.fov, side)]
        chosen = evenly_spaced(places, VALIDATION_PATCHES)
        image = np.stack([crop_patch(case.image.pixels, corner, side) for case, corner in chosen])
        mask = np.stack([crop_patch(case.mask, corner, side) for case, corner in chosen])
        device = self.fabric.device
        patches = Batch(
            torch.from_numpy(image).to(device), torch.from_numpy(mask).long().to(device)
        )
        return Validation(cases, patches)

    def _watching(self, emit: Emit) -> TrainingMonitor:
        return TrainingMonitor(
            self.recipe,
            self.folder,
            self.training.classes,
            self._source,
            self.tests,
            self.fabric.device,
            emit,
        )

    def _refuse_small_batches(self, devices: int) -> None:
        used = stage_names(self.recipe.distillation)
        for name, plan in self.recipe.stages:
            halved = name == "distil" and self.recipe.semi_supervised
            least = max(2, 2 * devices - 1) if halved else devices
            if name in used and plan.steps and plan.batch < least:
                raise InputError(
                    f"stages.{name}.batch is {plan.batch}; expected at least {least}, "
                    f"one {'labelled ' if halved else ''}patch for each device"
                    f"{' and one without a mask' if halved else ''}"
                )

    def _refuse_other_classes(self) -> None:
        for test in self.tests:
            if test.labelled and test.classes != self.training.classes:
                raise InputError(
                    f"domain {test.name} has classes {list(test.classes)}; "
                    f"expected those of the source, {list(self.training.classes)}"
                )
