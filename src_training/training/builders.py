"""Every network that a run trains, built from its recipe."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Self

import psutil
import torch
from torch import nn

from src_training.alignment.alignment_network import AlignmentNetwork
from src_training.alignment.semantic_autoencoder import SemanticAutoencoder
from src_training.config.networks import NetworkRecipe, Role, TeacherRecipe, find_model
from src_training.config.recipe import Recipe
from src_training.config.stages import StageSpec, stages_of
from src_training.distillation import Distillation, build_distillations
from src_training.errors import InputError
from src_training.formatting import format_bytes
from src_training.inference.external.networks import OutputNetwork
from src_training.inference.model_card import ModelCard
from src_training.inference.model_file import SegmentationModel, load_model
from src_training.networks import SegmentationNetwork, build_network
from src_training.networks.weights import shapes_alone
from src_training.seeds import step_seed
from src_training.training.stages.base import Stage

_AUTOENCODER_WIDTHS = (1, 64)
"""Least and most channels of the P-SAE's first level; its bottleneck has eight times as many."""

_AUTOENCODER_WIDTH_ALONE = 16
"""The same where the teacher is known by its outputs alone, and has no known bottleneck."""


@dataclass(frozen=True, eq=False)
class Networks:
    """All networks that the stages of a run train.

    Attributes
    ----------
    recipe
        Recipe of the run.
    teacher, tan
        Teacher and its alignment network.
    autoencoder
        P-SAE.
    student, san
        Student trained from masks alone, from which `baseline` and `distilled`
        start, and its alignment network, whose vectors distillation compares.
    baseline, baseline_san
        Student trained further from masks alone, for as many steps as `distilled`,
        and its own alignment network, used for the report.
    distilled, distilled_san
        Student trained by distillation, and its own alignment network.
    distillations
        Distillation losses between teacher and student.
    """

    recipe: Recipe
    teacher: SegmentationNetwork
    tan: AlignmentNetwork
    autoencoder: SemanticAutoencoder
    student: SegmentationNetwork
    san: AlignmentNetwork
    baseline: SegmentationNetwork
    baseline_san: AlignmentNetwork
    distilled: SegmentationNetwork
    distilled_san: AlignmentNetwork
    distillations: list[Distillation[Any]]

    @classmethod
    def build(
        cls, recipe: Recipe, classes: int, teacher: SegmentationNetwork | None = None
    ) -> Self:
        """Build all networks with random weights that depend on the recipe's seed.

        Parameters
        ----------
        recipe
            Recipe of the run.
        classes
            Number of classes, background included.
        teacher
            Teacher that is used by its outputs alone; see `open_teacher`.

        Raises
        ------
        InputError
            If a network's options are not allowed, or a distillation does not
            support this student.
        """

        def seed(role: str) -> None:
            torch.manual_seed(step_seed(recipe.seed, role, "start"))

        seed("teacher")
        teacher = teacher or _teacher(recipe, classes)
        seed("autoencoder")
        autoencoder = _autoencoder(recipe, classes, teacher)
        seed("tan")
        tan = _alignment_network(recipe, teacher)
        seed("student")
        student = build_segmentation_network(recipe, recipe.student, classes)
        # All three start from the same weights, so that the vectors of the three students can be
        # compared.
        sans = []
        for _ in range(3):
            seed("san")
            sans.append(_alignment_network(recipe, student))
        san, baseline_san, distilled_san = sans
        baseline = build_segmentation_network(recipe, recipe.student, classes)
        seed("distil")
        distilled = build_segmentation_network(recipe, recipe.student, classes)
        seed("distillations")
        distillations = build_distillations(recipe.distillation, teacher, student)
        return cls(
            recipe=recipe,
            teacher=teacher,
            tan=tan,
            autoencoder=autoencoder,
            student=student,
            san=san,
            baseline=baseline,
            baseline_san=baseline_san,
            distilled=distilled,
            distilled_san=distilled_san,
            distillations=distillations,
        )

    def eval(self) -> Self:
        """Switch all networks to evaluation mode, and return self."""
        for module in (
            self.teacher,
            self.tan,
            self.autoencoder,
            self.student,
            self.san,
            self.baseline,
            self.baseline_san,
            self.distilled,
            self.distilled_san,
        ):
            module.eval()
        return self


def build_stage(spec: StageSpec, networks: Networks) -> Stage:
    """Build the stage of a spec on the networks of a run."""
    module, _, function = spec.builder.partition(":")
    build = getattr(import_module(f"src_training.training.stages.{module}"), function)
    stage: Stage = build(networks)
    return stage


def check_networks(recipe: Recipe, classes: int) -> None:
    """Check that all networks can be built and trained, before the hours of training begin.

    They are built without weights, which takes neither time nor memory.

    Raises
    ------
    InputError
        If a network does not exist or cannot be trained on batches this small,
        the networks take more memory than is free, or a distillation does not support this student.
    """
    with shapes_alone():
        networks = Networks.build(recipe, classes)
        stages = [(spec, build_stage(spec, networks)) for spec in stages_of(recipe)]
    _require_memory(networks, [stage.trained for _, stage in stages])
    for spec, stage in stages:
        network, schedule = stage.segmentation_network, spec.schedule_of(recipe)
        if network is None or not schedule.steps or schedule.batch > 1:
            continue
        if network.stride == recipe.patch:
            field = spec.name if spec.in_recipe else "distil"
            batch = recipe.stages[field].batch
            raise InputError(
                f"stages.{field}.batch is {batch}; expected at least {batch + 1}, as its "
                f"network makes a single value of a patch of {recipe.patch} pixels"
            )


def _require_memory(networks: Networks, trained: Sequence[nn.Module]) -> None:
    """InputError if the weights alone take more memory than is free, before any is allocated."""
    modules = {name: part for name, part in vars(networks).items() if isinstance(part, nn.Module)}
    sizes = {name: _bytes(module) for name, module in modules.items()}
    # Gradients and the two moments of Adam are as large as the trained weights.
    needed = sum(sizes.values()) + 3 * max(map(_bytes, trained), default=0)
    free = psutil.virtual_memory().available
    if needed > free:
        largest = max(sizes, key=lambda name: sizes[name])
        raise InputError(
            f"the networks of this recipe take {format_bytes(needed)} of memory, most of it "
            f"{largest}, and {format_bytes(free)} are free; expected smaller ones: patch, latent, "
            "hidden, or the width of teacher and student"
        )


def _bytes(module: nn.Module) -> int:
    return sum(weight.numel() * weight.element_size() for weight in module.parameters())


def load_pretrained(
    recipe: Recipe, role: Role, copy: Path, classes: tuple[str, ...]
) -> SegmentationModel | None:
    """Load the model whose weights a network of the run starts from; None without one.

    Parameters
    ----------
    recipe
        Recipe whose `start_from` names the model.
    role
        Teacher or student.
    copy
        Path of the run's own copy of the model, which is read if it exists, because the
        original may be gone when the run is resumed.
    classes
        Names of the classes, background included.

    Raises
    ------
    InputError
        If the model cannot be read, or does not match the network.
    """
    network = recipe.used_teacher if role == "teacher" else recipe.student
    if not isinstance(network, NetworkRecipe) or network.start_from is None:
        return None
    model = load_model(copy if copy.exists() else find_model(network.start_from, role))
    card = model.card
    for what, found, expected in (
        ("network", card.architecture, network.name),
        ("options", card.options, network.options),
        ("number of channels", card.in_channels, recipe.preprocessing.in_channels),
        ("number of classes", len(card.classes), len(classes)),
    ):
        if found != expected:
            raise InputError(
                f"{role}.start_from is {network.start_from}, whose {what} is {found}; "
                f"expected {expected} as the {role}'s"
            )
    return model


def pretrained_notes(recipe: Recipe, role: Role, card: ModelCard) -> list[str]:
    """Notes for the user on a network that starts from a model, one sentence each.

    Parameters
    ----------
    recipe
        Recipe of the run.
    role
        Teacher or student.
    card
        Card of the model that it starts from.
    """
    frozen = role == "teacher" and not recipe.teacher.train
    notes = [
        f"The teacher is {card.name} as it is; this run does not train it"
        if frozen
        else f"The {role} starts from the weights of {card.name}"
    ]
    own, trained = (
        {name: value for name, value in each.model_dump().items() if name != "angle"}
        for each in (recipe.preprocessing, card.preprocessing)
    )
    names = [name for name in trained | own if own.get(name) != trained.get(name)]
    if names:
        differences = ", ".join(
            f"{name} {trained.get(name)} instead of {own.get(name)}" for name in names
        )
        notes.append(f"{card.name} was trained on images prepared with {differences}")
    sources = {source.name for source in recipe.sources}
    trained_on = {source.name for source in card.sources}
    notes += [
        f"{card.name} was trained on images of {test.name}, so that {test.name} is not unseen"
        for test in recipe.tests
        if test.name in trained_on - sources
    ]
    return notes


def build_segmentation_network(
    recipe: Recipe, network: NetworkRecipe, classes: int
) -> SegmentationNetwork:
    """The teacher or the student of a recipe, with random weights; errors as `build_network`."""
    built = build_network(
        network.name, recipe.preprocessing.in_channels, classes, **network.options
    )
    # Speeds up the students by a quarter to a half, and makes no difference to the teacher.
    built.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
    return built


def _teacher(recipe: Recipe, classes: int) -> SegmentationNetwork:
    """The teacher with random weights; a placeholder if its outputs alone are used, or nothing."""
    if isinstance(recipe.used_teacher, TeacherRecipe):
        return build_segmentation_network(recipe, recipe.used_teacher, classes)
    return OutputNetwork(recipe.preprocessing.in_channels, classes)


def _autoencoder(recipe: Recipe, classes: int, teacher: SegmentationNetwork) -> SemanticAutoencoder:
    """P-SAE for the foreground classes, with the bottleneck channels of the teacher."""
    width = _AUTOENCODER_WIDTH_ALONE
    if not isinstance(teacher, OutputNetwork):
        least, most = _AUTOENCODER_WIDTHS
        width = min(max(least, teacher.bottleneck_channels // 8), most)
    from_image = recipe.alignment.prior == "image"
    return SemanticAutoencoder(
        classes - 1,
        recipe.patch,
        width,
        recipe.latent,
        recipe.hidden,
        recipe.preprocessing.in_channels if from_image else None,
    )


def _alignment_network(recipe: Recipe, network: SegmentationNetwork) -> AlignmentNetwork:
    """A TAN or a SAN for the bottleneck grid of a training patch."""
    side = recipe.patch // network.stride
    return AlignmentNetwork(network.bottleneck_channels, (side, side), recipe.latent, recipe.hidden)
