"""Memory of the losses, and their numerical range."""

import dataclasses
from functools import partial

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from src_training.distillation import METHODS
from src_training.distillation.adversarial import Adversarial, Critic
from src_training.distillation.gkd import DCGD, DICD, GKDOptions, ViewPredictions
from src_training.distillation.graph_flow import GraphFlowOptions
from src_training.distillation.masks import MasksOptions, MixedMasks
from tests.distillation.random_outputs import STUDENT, random_masks, random_outputs
from tests.distillation.test_properties import ALL, DISTILLATIONS, teacher_of


def graphs(**options):
    return DCGD(GKDOptions(**options))


MAKERS = {type(make()): make for make in DISTILLATIONS.values()} | {
    DCGD: lambda: graphs(),
    DICD: lambda: DICD(GKDOptions()),
    Adversarial: lambda: Adversarial(GraphFlowOptions(), Critic(2)),
    MixedMasks: lambda: MixedMasks(MasksOptions(views=0, mixed=1)),
}
PARTS = {part.__name__: MAKERS[part] for method in METHODS.values() for part in method.parts} | {
    "one graph of all views": partial(graphs, scope="batch"),
    "softmax of edges": partial(graphs, edge_loss="softmax"),
    "softmax of all edges": partial(graphs, edge_loss="softmax", scope="batch"),
}
HALVES = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
SIDE, BATCH, VIEWS, LATENT = 256, 8, 16, 512


class Largest(TorchDispatchMode):
    """Bytes of the largest tensor that is allocated."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(made):
            if isinstance(leaf, torch.Tensor):
                self.bytes = max(self.bytes, leaf.untyped_storage().nbytes())
        return made


@pytest.fixture
def large_pass(make_pass):
    """Make forward outputs with all fields of all distillations, as leaf tensors."""

    def make(seed):
        bare = make_pass(seed, images=torch.rand(BATCH, 1, SIDE, SIDE))
        noise = random_outputs(seed, STUDENT, torch.float32, SIDE, BATCH)
        vectors = torch.randn(BATCH, 1 + VIEWS, LATENT)
        predicted = {
            "view_logits": noise.view_logits[:, :, :2],
            "plain_logits": noise.plain_logits[:, :2],
            "mixed_logits": noise.mixed_logits[:, :2],
        }
        whole = dataclasses.replace(bare, vectors=vectors, taps=noise.taps, **predicted)
        leaves = whole.map(lambda tensor: tensor.detach().requires_grad_())
        pairs = {"mixed_share": torch.rand(BATCH, 1, 1, 1)}
        pairs["partner_mask"] = random_masks(side=SIDE, batch=BATCH, classes=2)
        return dataclasses.replace(leaves, **pairs)

    return make


@pytest.mark.parametrize("part", PARTS)
def test_no_part_makes_a_table_of_pixels_by_pixels(part, large_pass):
    teacher, student = large_pass(0), large_pass(1)
    with Largest() as largest:
        losses = PARTS[part]()(teacher, student, random_masks(side=SIDE, batch=BATCH, classes=2))
        torch.stack(list(losses.values())).sum().backward()
    assert 0 < largest.bytes <= 64 * 2**20


@ALL
@HALVES
@pytest.mark.parametrize("strength", [0, 100])
def test_half_precision_stays_finite(name, dtype, strength):
    passes = [each.map(lambda t: strength * t) for each in (teacher_of(name), random_outputs(1))]
    teacher, student = (each.map(lambda t: t.to(dtype)) for each in passes)
    outputs = student.logits, student.mixed_logits
    leaves = [leaf.requires_grad_() for leaf in (*outputs, *student.taps.values())]
    with torch.autocast("cpu", torch.bfloat16):
        losses = DISTILLATIONS[name]()(teacher, student, random_masks())
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    made_for = DISTILLATIONS[name]()
    weights = made_for.weights(made_for.options)
    sum(weights[loss] * value for loss, value in losses.items()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert all(leaf.grad is None or torch.isfinite(leaf.grad).all() for leaf in leaves)


GKD = {
    "mse": graphs,
    "softmax": partial(graphs, edge_loss="softmax", scope="batch"),
    "uncentered": partial(graphs, centered=False),
    "cross": MAKERS[DICD],
    "predictions": MAKERS[ViewPredictions],
}


@pytest.mark.parametrize("name", GKD)
@HALVES
@pytest.mark.parametrize("strength", [0, 1e3, 6e4])
def test_half_precision_stays_finite_in_every_part_of_gkd(name, dtype, strength, make_pass):
    """The largest inputs are close to the maximum of float16, 65504."""
    noise = [
        {
            "view_logits": of.view_logits[:, :, :2, :8, :8],
            "plain_logits": of.plain_logits[:, :2, :8, :8],
        }
        for of in map(random_outputs, (0, 1))
    ]
    bare = make_pass(0, frozen=True), make_pass(1)
    teacher, student = (
        dataclasses.replace(each, **predicted).map(
            lambda t: (strength * t / t.abs().max()).detach().to(dtype).requires_grad_()
        )
        for each, predicted in zip(bare, noise, strict=True)
    )
    with torch.autocast("cpu", dtype):
        losses = GKD[name]()(teacher, student, random_masks(side=8, classes=2))
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    read = [student.logits, student.bottleneck, student.vectors, student.view_logits]
    learnt = [leaf.grad for leaf in (*read, *student.skips.features) if leaf.grad is not None]
    learnt += [each.grad for each in student.network.parameters() if each.grad is not None]
    assert learnt and all(gradient.isfinite().all() for gradient in learnt)


@pytest.mark.parametrize("centered", [False, True])
@HALVES
def test_gradients_are_finite_beside_a_zero_vector(dtype, centered):
    teacher, student = (torch.randn(3, 5, 8).to(dtype) for _ in range(2))
    student[1, 2] = student[0, 0] = 0
    student.requires_grad_()
    losses = graphs(centered=centered).compare(teacher.float(), student.float())
    torch.stack(list(losses.values())).sum().backward()
    assert student.grad.isfinite().all() and student.grad.abs().max() > 0


@pytest.mark.parametrize("name", ["emkd", "graph_flow_normalised", "ifvd", "skd", "coco"])
@HALVES
def test_gradients_are_finite_beside_a_zero_node(name, dtype):
    teacher, student = (
        each.map(lambda tensor: tensor.to(dtype)) for each in (teacher_of(name), random_outputs(1))
    )
    for feature in student.taps.values():
        feature[:, :, :4, :4] = 0
        feature[:, 0] = 0
    leaves = [leaf.requires_grad_() for leaf in (student.logits, *student.taps.values())]
    distillation = DISTILLATIONS[name]()
    losses = distillation(teacher, student, random_masks())
    weights = distillation.weights(distillation.options)
    sum(weights[loss] * value for loss, value in losses.items()).backward()
    learnt = [leaf.grad for leaf in leaves if leaf.grad is not None]
    assert learnt and all(gradient.isfinite().all() for gradient in learnt)


@HALVES
def test_cross_loss_is_finite_for_a_certain_teacher(dtype, make_pass):
    teacher, student = make_pass(0, frozen=True), make_pass(1)
    certain = torch.tensor([6e4, -6e4]).view(1, 2, 1, 1).expand_as(teacher.logits)
    with torch.autocast("cpu", dtype):
        sure = dataclasses.replace(teacher, logits=certain.to(dtype))
        loss = MAKERS[DICD]()(sure, student, random_masks(side=8, classes=2))["cross"]
    loss.backward()
    learnt = [each.grad for each in student.network.parameters() if each.grad is not None]
    assert loss.isfinite() and learnt and all(each.isfinite().all() for each in learnt)
