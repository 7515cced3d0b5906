"""Registry of the distillation methods by name; a new method is a file and an entry here."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Union

from pydantic import Field, TypeAdapter

from src_training.distillation.adversarial import Adversarial
from src_training.distillation.attention_transfer import (
    AttentionTransfer,
    AttentionTransferOptions,
)
from src_training.distillation.base import Distillation, MethodOptions, OutputOptions
from src_training.distillation.coco import CoCo, CoCoOptions
from src_training.distillation.emkd import EMKD, EMKDOptions
from src_training.distillation.fsp import FSP, FSPOptions
from src_training.distillation.function_matching import FunctionMatching, FunctionMatchingOptions
from src_training.distillation.gkd import DCGD, DICD, GKDOptions, ViewPredictions
from src_training.distillation.graph_flow import (
    GraphFlow,
    GraphFlowOptions,
    NormalisedGraphFlow,
    NormalisedGraphFlowOptions,
)
from src_training.distillation.ifvd import IFVD, IFVDOptions
from src_training.distillation.logits import LogitsKD, LogitsKDOptions
from src_training.distillation.masks import Masks, MasksOptions, MixedMasks
from src_training.distillation.skd import SKD, SKDOptions
from src_training.networks.base import SegmentationNetwork


@dataclass(frozen=True)
class MethodSpec:
    """A distillation method.

    Attributes
    ----------
    title
        Display name.
    citation
        Reference of the publication.
    options
        Options of the method in a recipe.
    parts
        Distillations whose losses are summed.
    """

    title: str
    citation: str
    options: type[MethodOptions]
    parts: tuple[type[Distillation[Any]], ...]

    def __str__(self) -> str:
        return f"{self.title} ({self.citation})"


METHODS: dict[str, MethodSpec] = {
    "gkd": MethodSpec("GKD", "arXiv 2207.12995", GKDOptions, (DCGD, DICD, ViewPredictions)),
    "emkd": MethodSpec("EMKD", "arXiv 2108.09987", EMKDOptions, (EMKD,)),
    "graph_flow": MethodSpec(
        "Graph Flow", "arXiv 2203.08667", GraphFlowOptions, (GraphFlow, Adversarial)
    ),
    "graph_flow_normalised": MethodSpec(
        "Graph Flow, normalised",
        "arXiv 2203.08667",
        NormalisedGraphFlowOptions,
        (NormalisedGraphFlow, Adversarial),
    ),
    "logits": MethodSpec("logits KD", "arXiv 1503.02531", LogitsKDOptions, (LogitsKD,)),
    "function_matching": MethodSpec(
        "function matching", "arXiv 2106.05237", FunctionMatchingOptions, (FunctionMatching,)
    ),
    "attention": MethodSpec(
        "attention transfer", "arXiv 1612.03928", AttentionTransferOptions, (AttentionTransfer,)
    ),
    "fsp": MethodSpec("FSP", "CVPR 2017", FSPOptions, (FSP,)),
    "ifvd": MethodSpec("IFVD", "ECCV 2020", IFVDOptions, (IFVD,)),
    "skd": MethodSpec("SKD, pair-wise", "arXiv 1903.04197", SKDOptions, (SKD,)),
    "coco": MethodSpec("CoCo", "arXiv 2108.12173", CoCoOptions, (CoCo,)),
    "masks": MethodSpec(
        "no teacher, masks in every view", "control", MasksOptions, (Masks, MixedMasks)
    ),
}


def parse_options(content: object) -> MethodOptions:
    """Options of a method from the fields of a recipe, ``{"method": "gkd", "views": 2}``.

    Raises
    ------
    pydantic.ValidationError
        If the method is not in `METHODS`, or one of its options is unknown or invalid.
    """
    if isinstance(content, MethodOptions):
        return content
    # Built on demand, because a method may be registered after this module is imported.
    return _adapter(tuple(spec.options for spec in METHODS.values())).validate_python(content)


@cache
def _adapter(options: tuple[type[MethodOptions], ...]) -> TypeAdapter[MethodOptions]:
    union: Any = Union[options]  # noqa: UP007 built from a tuple
    return TypeAdapter(Annotated[union, Field(discriminator="method")])


def active_parts(options: MethodOptions) -> list[type[Distillation[Any]]]:
    """Parts of a method with a loss of nonzero weight."""
    return [part for part in METHODS[options.method].parts if any(part.weights(options).values())]


def build_distillations(
    methods: Sequence[MethodOptions], teacher: SegmentationNetwork, student: SegmentationNetwork
) -> list[Distillation[Any]]:
    """The active parts of all methods, built for two networks.

    Raises
    ------
    InputError
        If a method cannot teach this student, see `GraphFlow.for_pair`.
    """
    return [
        part.for_pair(options, teacher, student)
        for options in methods
        for part in active_parts(options)
    ]


def _reads_only_outputs(part: type[Distillation[Any]]) -> bool:
    """Whether a part reads at most the teacher's logits, and no features inside it."""
    inside = part.taps or part.reads_vectors or part.has_paraphraser
    return not inside and (part.learns_outputs or not part.reads_teacher)


def output_methods() -> list[str]:
    """Names of the methods that read no features inside the teacher."""
    return [name for name, spec in METHODS.items() if all(map(_reads_only_outputs, spec.parts))]


def inner_features(options: MethodOptions) -> str:
    """Clause about the parts of a method that read features inside the teacher; empty if none."""
    feature_parts = [part for part in active_parts(options) if not _reads_only_outputs(part)]
    if not feature_parts:
        return ""
    clause = f"{options.method} reads features inside the teacher"
    if len(feature_parts) == len(METHODS[options.method].parts):
        return clause
    names = ", ".join(name for part in feature_parts for name in part.loss_names)
    return f"{clause} unless its weights {names} are 0"


def sees_plain(options: MethodOptions) -> bool:
    """Whether the teacher of a method predicts patches without style augmentation."""
    plain = isinstance(options, OutputOptions) and options.teacher_sees == "plain"
    return plain and any(part.learns_outputs for part in active_parts(options))
