"""Each term of GKD alone has a gradient for the student's encoder, by anchors and views."""

import dataclasses

import pytest
import torch

from src_training.alignment.alignment_network import AlignmentNetwork
from src_training.data.sampling import Batch
from src_training.distillation import build_distillations, parse_options
from src_training.distillation.gkd import DCGD, GKDOptions
from src_training.networks import build_network
from src_training.training.stages.distillation import DistillationStage

TERMS = ("intra", "inter", "cross", "predictions")
VIEWS = 2
MASK = torch.zeros(2, 8, 8, dtype=torch.long)


def stage_of(term, **options):
    """A stage whose only distillation is one term of GKD."""
    torch.manual_seed(0)
    student, teacher = build_network("fanet", 1, 2, width=2), build_network("fanet", 1, 2, width=3)
    pairs = [
        (network, AlignmentNetwork(network.bottleneck_channels, (4, 4), latent=8, hidden=4))
        for network in (student, teacher)
    ]
    weights = dict.fromkeys(TERMS, 0.0) | {term: 1.0}
    methods = [parse_options({"method": "gkd", "views": VIEWS, **weights, **options})]
    parts = build_distillations(methods, teacher, student)
    return DistillationStage(*pairs, parts, "ce").train()


def batch():
    torch.manual_seed(1)
    image, plain = torch.rand(2, 1, 32, 32), torch.rand(2, 1, 32, 32)
    views = torch.rand(2 * VIEWS, 1, 32, 32)
    mask = torch.randint(2, (2, 32, 32))
    return Batch(image.requires_grad_(), mask, views.requires_grad_(), plain)


def gradients(loss, tensors):
    return torch.autograd.grad(loss, tensors, retain_graph=True, materialize_grads=True)


@pytest.mark.parametrize("term", TERMS)
def test_a_term_alone_moves_the_encoder(term):
    stage, drawn = stage_of(term), batch()
    loss = stage(drawn)[f"gkd/{term}"]
    encoder = list(stage.segmentation_network.encoder.parameters())
    assert any(each.any() for each in gradients(loss, encoder))
    loss.backward()
    assert all(parameter.grad is None for parameter in stage.frozen.parameters())


@pytest.mark.parametrize(
    ("term", "by_anchors", "by_views"),
    [
        ("intra", True, True),
        # The complete graph is between views only.
        ("inter", False, True),
        ("predictions", True, True),
    ],
)
def test_a_term_reads_anchors_and_views(term, by_anchors, by_views):
    stage, drawn = stage_of(term, centered=False), batch()
    # In training mode, batch norm would mix anchors and views.
    loss = stage.eval()(drawn)[f"gkd/{term}"]
    anchors, views = gradients(loss, [drawn.image, drawn.views])
    assert (bool(anchors.any()), bool(views.any())) == (by_anchors, by_views)
    assert all(view.any() for view in views) == by_views


@pytest.mark.parametrize("centered", [True, False])
@pytest.mark.parametrize(
    ("term", "part"), [("intra", "anchors"), ("intra", "views"), ("inter", "views")]
)
def test_the_encoder_moves_through_either_alone(term, part, centered, make_pass):
    teacher, student = make_pass(0, frozen=True), make_pass(1)
    anchors, views = student.vectors[:, :1], student.vectors[:, 1:]
    only = [anchors, views.detach()] if part == "anchors" else [anchors.detach(), views]
    student = dataclasses.replace(student, vectors=torch.cat(only, 1))
    DCGD(GKDOptions(centered=centered))(teacher, student, MASK)[term].backward()
    network = student.network
    assert network.encoder[0].weight.grad.any() and network.deeper.weight.grad.any()
    assert all(parameter.grad is None for parameter in network.decoder_parameters)
