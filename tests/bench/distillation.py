"""What a step of each distillation costs.

A step is held against the network passes that it cannot do without: the teacher's
forward, the student's forward and backward, the views' where they are compared, and
those of what a method adds: the semantic encoders, the cross decodings, the
paraphraser, and the critic, which passes the student's and the teacher's logits
forward and backward once and again for its gradient penalty.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from torch.nn.utils.parametrize import cached

from src_training.alignment.alignment_network import AlignmentNetwork
from src_training.data.sampling import Batch
from src_training.distillation import (
    METHODS,
    Distillation,
    MethodOptions,
    build_distillations,
    parse_options,
)
from src_training.distillation.adversarial import Adversarial, pool_logits
from src_training.distillation.base import ForwardOutputs
from src_training.distillation.gkd import DICD
from src_training.distillation.gkd.dicd import cross_predictions
from src_training.distillation.graph_flow import GraphFlow, NormalisedGraphFlow
from src_training.networks import SegmentationNetwork, build_network
from src_training.networks.base import Skips
from src_training.training.stages.distillation import DistillationStage
from tests.bench.row import BenchRow, Rows, medians
from tests.distillation.random_outputs import SCALES

PATCH, SAMPLES, VIEWS, WIDTH = 128, 8, 4, 8
ROUNDS = 3

CHOSEN = {method: parse_options({"method": method}) for method in METHODS} | {
    "gkd": parse_options({"method": "gkd", "views": VIEWS}),
    "gkd with predictions": parse_options({"method": "gkd", "views": VIEWS, "predictions": 1.0}),
}

Aligned = tuple[SegmentationNetwork, AlignmentNetwork]


def rows() -> Rows:
    """The ratio of each method's step to its passes."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    grid = (PATCH // 8, PATCH // 8)
    teacher, student = (
        (network, AlignmentNetwork(network.bottleneck_channels, grid))
        for network in (build_network("fanet", 1, 2, width=WIDTH), build_network("enet", 1, 2))
    )
    for name, chosen in CHOSEN.items():
        what = f"step of {name} / its network passes"
        before = "1.21 ×" if name == "gkd" else ""
        yield BenchRow(what, ratio(chosen, teacher, student), "×", "≤ 1.15", before)


def ratio(chosen: MethodOptions, teacher: Aligned, student: Aligned) -> float:
    """Seconds of a step to those of its passes."""
    parts = build_distillations([chosen], teacher[0], student[0])
    stage = DistillationStage(student, teacher, parts, "dice_ce").train()
    counts = (SAMPLES, SAMPLES * stage.views)
    anchors, views = (torch.rand(count, 1, PATCH, PATCH) for count in counts)
    mask = torch.randint(2, (SAMPLES, PATCH, PATCH))
    batch = stage.prepare(Batch(anchors, mask, views if stage.views else None, anchors))
    passed = partial(passes, teacher, student, batch, parts)
    detached = [each.map(leaf) for each in passed()]
    works: dict[str, Callable[[], object]] = {
        "step": lambda: stage.total(stage(batch)).backward(),
        "passes": lambda: backward(passed()[1]),
    }
    for number, part in enumerate(parts):
        if type(part) in ADDED:
            works[f"added {number}"] = partial(add, part, *detached)
    took = medians(works, ROUNDS)
    return took.pop("step") / sum(took.values())


def passes(
    teacher: Aligned, student: Aligned, batch: Batch, parts: Sequence[Distillation]
) -> tuple[ForwardOutputs, ForwardOutputs]:
    """Teacher's and student's, and no more of anchors, views and mixed patches than are read."""
    predicts = any(part.predicts_views and part.views for part in parts)
    student_outputs = one_pass(*student, batch, predicts)
    teacher_outputs = replace(student_outputs, network=teacher[0], alignment=teacher[1])
    if batch.mixed is not None:
        student_outputs = replace(
            student_outputs,
            mixed_logits=student[0](batch.mixed.image),
            mixed_share=batch.mixed.share,
            partner_mask=batch.mixed.partner_mask,
        )
    with torch.no_grad():
        if any(part.reads_anchors for part in parts):
            compares = any(part.reads_vectors for part in parts)
            seen = batch if compares else replace(batch, views=None)
            teacher_outputs = one_pass(*teacher, seen, False)
        if any(part.sees_plain for part in parts):
            teacher_outputs = replace(teacher_outputs, plain_logits=teacher[0](batch.unaugmented))
        if batch.mixed is not None and any(part.mixes and part.reads_teacher for part in parts):
            teacher_outputs = replace(teacher_outputs, mixed_logits=teacher[0](batch.mixed.image))
    return teacher_outputs, student_outputs


def one_pass(
    network: SegmentationNetwork, alignment: AlignmentNetwork, batch: Batch, decodes: bool
) -> ForwardOutputs:
    """What a network makes of a batch, written without regard to `DistillationStage`."""
    images = batch.image if batch.views is None else torch.cat([batch.image, batch.views])
    with network.collect_taps(*SCALES) as taps:
        skips, bottleneck = network.encode(images)
        anchors = Skips(tuple(feature[:SAMPLES] for feature in skips.features), skips.size)
        logits = (
            network.decode(skips, bottleneck)
            if decodes
            else network.decode(anchors, bottleneck[:SAMPLES])
        )
    vectors = view_logits = None
    if batch.views is not None:
        flat = alignment.encoder(bottleneck)
        views = flat[SAMPLES:].unflatten(0, (SAMPLES, -1))
        vectors = torch.cat([flat[:SAMPLES, None], views], dim=1)
    if decodes:
        view_logits = logits[SAMPLES:].unflatten(0, (SAMPLES, -1))
    return ForwardOutputs(
        network,
        alignment,
        anchors,
        bottleneck[:SAMPLES],
        logits[:SAMPLES],
        vectors,
        {tap: feature[:SAMPLES] for tap, feature in taps.items()},
        view_logits,
    )


def cross(
    _part: Distillation, teacher: ForwardOutputs, student: ForwardOutputs
) -> Sequence[Tensor]:
    """Each network's decoding of the other's vector."""
    return cross_predictions(teacher, student)


def paraphrased(
    part: Distillation, teacher: ForwardOutputs, _student: ForwardOutputs
) -> Sequence[Tensor]:
    """Nothing to learn from: the paraphraser is the teacher's."""
    part.paraphraser(teacher.taps)
    return []


def criticised(
    part: Distillation, teacher: ForwardOutputs, student: ForwardOutputs
) -> Sequence[Tensor]:
    """Scores of both, from which student and critic learn at once, and a slope between them."""
    assert isinstance(part, Adversarial)
    real, fake = pool_logits(teacher.logits), pool_logits(student.logits)
    with cached():
        scores = part.critic(torch.cat([fake, real]))
        between = torch.lerp(real, fake, 0.5).detach().requires_grad_()
        (slope,) = torch.autograd.grad(part.critic(between).sum(), between, create_graph=True)
    return [scores, slope.square()]


ADDED: dict[
    type[Distillation], Callable[[Distillation, ForwardOutputs, ForwardOutputs], Sequence[Tensor]]
] = {
    DICD: cross,
    GraphFlow: paraphrased,
    NormalisedGraphFlow: paraphrased,
    Adversarial: criticised,
}
"""What the networks that a method adds make of two passes, once each."""


def add(part: Distillation, teacher: ForwardOutputs, student: ForwardOutputs) -> None:
    """Pass a method's own networks forward, and backward where something learns."""
    if made := ADDED[type(part)](part, teacher, student):
        torch.stack([each.sum() for each in made]).sum().backward()


def leaf(tensor: Tensor) -> Tensor:
    """The tensor without its past, and with a gradient of its own."""
    return tensor.detach().clone().requires_grad_(tensor.is_floating_point())


def backward(student: ForwardOutputs) -> None:
    """Through all that a student's pass made."""
    ends = (student.logits, student.vectors, student.view_logits, student.mixed_logits)
    torch.stack([end.sum() for end in ends if end is not None]).sum().backward()
