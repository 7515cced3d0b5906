"""From a recipe to trained networks: the stages of GKD in their order."""

import copy
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric

from src_training.alignment.autoencoder import SemanticAutoencoder
from src_training.alignment.msan import AlignmentNetwork
from src_training.data.domain import Domain
from src_training.data.patches import (
    Batch,
    Patches,
    PreparedCase,
    cut,
    patch_corners,
    prepare_cases,
)
from src_training.data.phantom import phantom_domain
from src_training.data.split import split
from src_training.data.views import Views
from src_training.device import find_device, training_precision
from src_training.distillation.base import Distillation
from src_training.distillation.dcgd import DualContrastiveGraphs
from src_training.distillation.dicd import CrossDistillation
from src_training.errors import InputError
from src_training.events import Event
from src_training.networks import SegmentationNetwork, build_network
from src_training.recipe import Distilling, DomainRecipe, Recipe, StageRecipe
from src_training.training.loop import learn, step_seed
from src_training.training.run import RunFolder
from src_training.training.stages import (
    Alignment,
    Distil,
    MaskAutoencoder,
    MaskVectors,
    Stage,
    Supervised,
    Validation,
)

VALIDATION_PATCHES = 32


@dataclass(frozen=True)
class TrainedNetworks:
    """What a run has trained: networks, and the alignment networks between them."""

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
    emit, stopping
        See `learn`.

    Raises
    ------
    InputError
        If the domains cannot be read or do not fit the recipe.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: RunFolder,
        device: str,
        emit: Callable[[Event], None],
        stopping: Callable[[], bool],
    ) -> None:
        self.recipe, self.folder = recipe, folder
        self._emit, self._stopping = emit, stopping
        self.precision = training_precision(found := find_device(device))
        self.fabric = Fabric(
            accelerator=found.type,
            devices=[found.index] if found.index is not None else 1,
            precision=self.precision,
        )
        self.training, self.held_out = source_split(recipe)
        self.tests = [load_domain(test, masks_required=False) for test in recipe.tests]
        self._refuse_other_classes()

    def run(self) -> None:
        """Run every stage that is not done, then write models and report."""
        from src_training.training.outcome import write_outcome

        networks = self.train()
        write_outcome(self, networks)

    def train(self) -> "TrainedNetworks":
        """Run every stage that is not done."""
        recipe, stages = self.recipe, self.recipe.stages
        self._patches = Patches(
            self._prepare(self.training), Views(recipe.augmentation, recipe.patch)
        )
        self._validation = self._validation_split()
        with_dice = recipe.supervised == "dice_ce"

        teacher = self._network("teacher")
        self._learn(Supervised("teacher", teacher, with_dice), stages.teacher)
        autoencoder = self._autoencoder()
        self._learn(MaskAutoencoder(autoencoder), stages.autoencoder)
        self._learn(MaskVectors(autoencoder), stages.vectors)
        tan = self._alignment("tan", teacher)
        self._learn(Alignment("tan", tan, teacher, autoencoder, recipe.alignment), stages.tan)
        student = self._network("student")
        self._learn(Supervised("student", student, with_dice), stages.student)
        alone = copy.deepcopy(student)
        self._learn(Supervised("alone", alone, with_dice), stages.distil)
        san = self._alignment("san", student)
        self._learn(Alignment("san", san, student, autoencoder, recipe.alignment), stages.san)
        fresh = recipe.distilling.start == "fresh"
        distilled = self._network("distil") if fresh else copy.deepcopy(student)
        distil = Distil(
            (distilled, san),
            (teacher, tan),
            build_distillations(recipe.distilling),
            {name: getattr(recipe.distilling, name) for name in ("intra", "inter", "cross")},
            recipe.distilling.views,
            with_dice,
        )
        self._learn(distil, stages.distil)
        return TrainedNetworks(teacher, tan, autoencoder, alone, distilled, san)

    def _learn(self, stage: Stage, plan: StageRecipe) -> None:
        learn(
            stage,
            plan,
            self._patches,
            self._validation,
            self.folder.stage(stage.name),
            fabric=self.fabric,
            seed=self.recipe.seed,
            weight_decay=self.recipe.weight_decay,
            emit=self._emit,
            stopping=self._stopping,
        )

    def _network(self, role: str) -> SegmentationNetwork:
        network = self.recipe.teacher if role == "teacher" else self.recipe.student
        self._seed(role)
        built = build_network(
            network.name,
            self.recipe.preprocessing.in_channels,
            len(self.training.classes),
            **network.options,
        )
        # A quarter to a half faster for the students, of no account for the teacher.
        built.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
        return built

    def _autoencoder(self) -> SemanticAutoencoder:
        self._seed("autoencoder")
        width = int(self.recipe.teacher.options.get("width", 64))
        return SemanticAutoencoder(
            len(self.training.classes) - 1,
            self.recipe.patch,
            width,
            self.recipe.latent,
            self.recipe.hidden,
        )

    def _alignment(self, role: str, network: SegmentationNetwork) -> AlignmentNetwork:
        self._seed(role)
        side = self.recipe.patch // network.stride
        return AlignmentNetwork(
            network.bottleneck_channels, (side, side), self.recipe.latent, self.recipe.hidden
        )

    def _seed(self, role: str) -> None:
        torch.manual_seed(step_seed(self.recipe.seed, role, "start"))

    def _prepare(self, domain: Domain) -> list[PreparedCase]:
        return prepare_cases(domain, self.recipe.preprocessing)

    def _validation_split(self) -> Validation:
        cases, side = self._prepare(self.held_out), self.recipe.patch
        places = [(case, corner) for case in cases for corner in patch_corners(case.fov, side)]
        chosen = places[:: max(1, len(places) // VALIDATION_PATCHES)][:VALIDATION_PATCHES]
        image = np.stack([cut(case.image.pixels, corner, side) for case, corner in chosen])
        mask = np.stack([cut(case.mask, corner, side) for case, corner in chosen])
        device = self.fabric.device
        patches = Batch(
            torch.from_numpy(image).to(device), torch.from_numpy(mask).long().to(device)
        )
        return Validation(cases, patches)

    def _refuse_other_classes(self) -> None:
        for test in self.tests:
            if test.labelled and test.classes != self.training.classes:
                raise InputError(
                    f"domain {test.name} has classes {list(test.classes)}; "
                    f"expected those of the source, {list(self.training.classes)}"
                )


def build_distillations(distilling: Distilling) -> list[Distillation]:
    """The distillations whose weights are not zero."""
    chosen: list[Distillation] = []
    if distilling.intra or distilling.inter:
        chosen.append(
            DualContrastiveGraphs(distilling.edge_loss, distilling.scope, distilling.temperature)
        )
    if distilling.cross:
        chosen.append(CrossDistillation())
    return chosen


def load_domain(recipe: DomainRecipe, *, masks_required: bool) -> Domain:
    """The domain a recipe names.

    Raises
    ------
    InputError
        If it cannot be read, or no case matches `only`.
    """
    if recipe.phantoms is not None:
        made = recipe.phantoms
        drawn = phantom_domain(made.scanner, made.images, made.size, made.seed)
        domain = replace(drawn, name=recipe.name)
    else:
        domain = Domain.from_folder(
            Path(recipe.folder or ""),
            name=recipe.name,
            class_values=recipe.class_values,
            masks="required" if masks_required else "optional",
        )
    if recipe.only is None:
        return domain
    chosen = [name for name in domain.names if re.fullmatch(recipe.only, name)]
    if not chosen:
        raise InputError(
            f"domain {recipe.name}: no case matches only={recipe.only!r}; "
            f"found {domain.names[0]!r} and {len(domain) - 1} more"
        )
    return domain.subset(chosen)


def source_split(recipe: Recipe) -> tuple[Domain, Domain]:
    """Training and validation cases of the source.

    Raises
    ------
    InputError
        If the source cannot be read, a validation case is not in it, or
        nothing is left to train on.
    """
    source = load_domain(recipe.source, masks_required=True)
    if isinstance(recipe.validation, float):
        return split(source, recipe.validation, recipe.seed)
    held_out = source.subset(recipe.validation)
    training = [name for name in source.names if name not in recipe.validation]
    if not training:
        raise InputError(
            f"validation names all {len(source)} cases of {source.name}; expected some to train on"
        )
    return source.subset(training), held_out
