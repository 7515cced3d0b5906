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
from src_training.inference.external.networks import OutputNetwork
from src_training.inference.model_card import ModelCard
from src_training.inference.model_file import SegmentationModel, load_model
from src_training.networks import SegmentationNetwork, build_network
from src_training.networks.weights import shapes_alone
from src_training.seeds import step_seed
from src_training.training.stages.base import Stage

_AUTOENCODER_WIDTHS = (1, 64)
"""Least and most channels of the P-SAE's first level, an eighth of those of its bottleneck."""

_AUTOENCODER_WIDTH_ALONE = 16
"""Its channels beside a teacher of which outputs alone are used."""


@dataclass(frozen=True, eq=False)
class Networks:
    """Everything that the stages of a run train; each stage fills its part.

    Attributes
    ----------
    recipe
        Of the run.
    teacher, tan
        The teacher and its alignment network.
    autoencoder
        P-SAE.
    student, san
        The student from masks alone, from which `baseline` and `distilled`
        start, and its alignment network, by which distillation compares vectors.
    baseline, baseline_san
        The student after as many further steps from masks alone as `distilled`,
        and an alignment network of its own, by which it is reported.
    distilled, distilled_san
        The student that the teacher teaches, and an alignment network of its own.
    distillations
        What the student learns from its teacher.
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
        """All networks with the random weights that follow from the recipe's seed.

        Parameters
        ----------
        recipe
            Names the networks, and says how they align and distil.
        classes
            Number of classes, background included.
        teacher
            One of which the outputs alone are used, open; see `open_teacher`.

        Raises
        ------
        InputError
            If a network's options are not allowed, or a distillation cannot
            teach this student.
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
        # Fitted from the same weights, what they find in three students can be compared.
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
        """The same networks, in evaluation mode."""
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
    """The stage of a run that a spec names; it trains its part of the networks."""
    module, _, function = spec.builder.partition(":")
    build = getattr(import_module(f"src_training.training.stages.{module}"), function)
    stage: Stage = build(networks)
    return stage


def check_networks(recipe: Recipe, classes: int) -> None:
    """Build all networks once where it takes neither time nor memory: not after hours.

    Raises
    ------
    InputError
        If there is no such network, it cannot be trained on batches this
        small, they take more memory than is free, or a distillation cannot teach this student.
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
    modules = {n: each for n, each in vars(networks).items() if isinstance(each, nn.Module)}
    whole = {name: _bytes(module) for name, module in modules.items()}
    # Beside the weights of the stage that is trained lie its gradients, and the two means of Adam.
    needed = sum(whole.values()) + 3 * max(map(_bytes, trained), default=0)
    free = psutil.virtual_memory().available
    if needed > free:
        largest = max(whole, key=lambda name: whole[name])
        raise InputError(
            f"the networks of this recipe take {needed / 1e9:.3g} GB of memory, most of it "
            f"{largest}, and {free / 1e9:.3g} GB are free; expected smaller ones: patch, latent, "
            "hidden, or the width of teacher and student"
        )


def _bytes(module: nn.Module) -> int:
    return sum(each.numel() * each.element_size() for each in module.parameters())


def load_pretrained(
    recipe: Recipe, role: Role, copy: Path, classes: tuple[str, ...]
) -> SegmentationModel | None:
    """The model whose weights the teacher or the student starts from; None without one.

    Parameters
    ----------
    recipe
        Names the model in the `start_from` of the network.
    role
        Which network.
    copy
        The run's own copy of the model, read instead where it exists: the run does
        not depend on a file that may be gone when it is resumed.
    classes
        Names of the classes, background included.

    Raises
    ------
    InputError
        If the model cannot be read or is of another kind than the network.
    """
    network = recipe.teacher if role == "teacher" else recipe.student
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
    """What a person should know of a network that starts from a model, one sentence each.

    Parameters
    ----------
    recipe
        Of the run.
    role
        Which network.
    card
        Of the model that it starts from.
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
    # A quarter to a half faster for the students, of no account for the teacher.
    built.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
    return built


def _teacher(recipe: Recipe, classes: int) -> SegmentationNetwork:
    """The teacher with random weights; an empty one where its outputs alone are used."""
    if isinstance(recipe.teacher, TeacherRecipe):
        return build_segmentation_network(recipe, recipe.teacher, classes)
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
    """A TAN or a SAN on the grid that its network makes of a training patch."""
    side = recipe.patch // network.stride
    return AlignmentNetwork(network.bottleneck_channels, (side, side), recipe.latent, recipe.hidden)
