"""Gradients of distillation losses compared with that of the masks, and warnings about them."""

import re

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from src_training.alignment.alignment_network import AlignmentNetwork
from src_training.config.recipe import Recipe
from src_training.data.sampling import Batch
from src_training.distillation import build_distillations, parse_options
from src_training.networks import build_network
from src_training.networks.enet import ENet
from src_training.networks.little_unet import LittleUNet
from src_training.runs.events import Noted
from src_training.runs.run import distil
from src_training.training.gradient_balance import (
    DOMINANCE_RATIO,
    GradientRatio,
    dominance_warnings,
    gradient_ratios,
    no_gain_notes,
)
from src_training.training.stages import base as stages
from src_training.training.stages.distillation import DistillationStage

VIEWS = 2


def stage_of(method="gkd", **options):
    torch.manual_seed(0)
    student, teacher = build_network("fanet", 1, 2, width=2), build_network("fanet", 1, 2, width=3)
    aligned = [
        (network, AlignmentNetwork(network.bottleneck_channels, (4, 4), latent=8, hidden=4))
        for network in (student, teacher)
    ]
    if method == "gkd":
        options["views"] = VIEWS
    parts = build_distillations([parse_options({"method": method, **options})], teacher, student)
    return DistillationStage(*aligned, parts, "dice_ce")


def batch():
    torch.manual_seed(1)
    mask = torch.randint(2, (2, 32, 32))
    image = (mask[:, None] + torch.rand(2, 1, 32, 32)) / 2
    return Batch(image, mask, torch.rand(2 * VIEWS, 1, 32, 32), image)


def stage_weights(recipe):
    networks = build_network("fanet", 1, 2, width=3), build_network("fanet", 1, 2, width=2)
    (part,) = build_distillations(recipe.distillation, *networks)
    return part.weights(part.options)


def ratios_of(stage):
    return gradient_ratios(stage, batch(), Fabric(accelerator="cpu", devices=1))


def test_a_ratio_is_that_of_two_backward_passes():
    stage = stage_of(intra=3.0)
    found = ratios_of(stage)
    gradients = {}
    for names in (("segmentation/ce", "segmentation/dice"), ("gkd/intra",)):
        stage.train().zero_grad()
        losses = stage(batch())
        sum(stage.weights.get(name, 1.0) * losses[name] for name in names).backward()
        parts = [
            np.zeros(each.shape) if each.grad is None else each.grad.double().numpy()
            for each in stage.trained.parameters()
        ]
        gradients[names[0]] = np.concatenate([part.ravel() for part in parts])
    assert found.keys() == {"gkd/intra", "gkd/inter", "gkd/cross"}
    masks, intra = gradients["segmentation/ce"], gradients["gkd/intra"]
    times = np.linalg.norm(intra) / np.linalg.norm(masks)
    assert found["gkd/intra"].norm == pytest.approx(times, rel=1e-4)
    cosine = (intra / np.linalg.norm(intra)) @ (masks / np.linalg.norm(masks))
    assert found["gkd/intra"].cosine == pytest.approx(cosine, abs=1e-4)


def test_a_ratio_is_proportional_to_its_weight():
    one, ten = ratios_of(stage_of(inter=1.0)), ratios_of(stage_of(inter=10.0))
    assert ten["gkd/inter"].norm == pytest.approx(10 * one["gkd/inter"].norm, rel=1e-4)
    assert ten["gkd/inter"].cosine == pytest.approx(one["gkd/inter"].cosine, abs=1e-4)
    assert ten["gkd/intra"] == pytest.approx(one["gkd/intra"], rel=1e-4)


@pytest.mark.parametrize(
    ("norm", "cosine", "dominates"),
    [
        (DOMINANCE_RATIO, 0.0, True),
        (DOMINANCE_RATIO - 0.1, -1.0, False),
        (60.0, 0.0, True),
        (8.0, 0.6, False),
        (8.0, -0.5, True),
        (1000.0, 1.0, False),
    ],
)
def test_a_loss_along_the_masks_does_not_dominate(norm, cosine, dominates):
    assert GradientRatio(norm, cosine).dominates is dominates


@pytest.mark.parametrize("method", ["gkd", "graph_flow"])
def test_ratios_leave_the_stage_unchanged(method):
    stage = stage_of(method)
    before = {name: tensor.clone() for name, tensor in stage.state_dict().items()}
    found = ratios_of(stage)
    assert all(torch.equal(tensor, before[name]) for name, tensor in stage.state_dict().items())
    assert all(each.grad is None for each in stage.parameters())
    assert found.get("graph_flow/critic", GradientRatio(0.0, 0.0)).norm == 0.0


def test_a_warning_names_a_weight_that_does_not_dominate():
    gkd = Recipe.load("phantom", {"distillation.gkd.intra": "0.5"}).distillation
    (said,) = dominance_warnings(
        {"gkd/intra": GradientRatio(25, 0.1), "gkd/cross": GradientRatio(0.7, 0.0)}, gkd
    )
    assert "distillation.gkd.intra of 0.02 instead of 0.5" in said and "25 times" in said
    emkd = Recipe.load("phantom", {"distillation": "[{method: emkd, weight: 0.5}]"}).distillation
    (said,) = dominance_warnings({"emkd/rad_high": GradientRatio(6, 0.0)}, emkd)
    field, value, now = re.search(r"([\w.]+) of ([\d.]+) instead of ([\d.]+)", said).groups()
    assert float(now) == 0.9 and float(value) == pytest.approx(0.9 / 6)
    recipe = Recipe.load("phantom", {"distillation": "[{method: emkd, weight: 0.5}]", field: value})
    assert stage_weights(recipe)["rad_high"] == 0.5 * float(value)


@pytest.mark.parametrize(("distilled", "said"), [(0.71, 0), (0.7, 1), (0.6, 1)])
def test_a_student_without_gain_has_a_note(distilled, said):
    assert len(no_gain_notes(distilled, 0.7)) == said


@pytest.mark.parametrize(("weight", "said"), [(1e6, True), (1e-9, False)])
def test_a_run_warns_before_its_first_step(weight, said, make_recipe, tmp_path):
    recipe = make_recipe(
        distillation=[{"method": "gkd", "intra": weight, "inter": 0, "cross": 0, "views": 2}]
    )
    events = []
    distil(recipe, tmp_path / "run", device="cpu", listener=events.append)
    assert ["intra" in each for each in notes_of(events, "The gradient of")] == [True] * said


@pytest.mark.parametrize("weak", [True, False])
def test_a_run_warns_of_a_teacher_hardly_better(weak, make_recipe, tmp_path, monkeypatch):
    known = {LittleUNet: 0.7, ENet: 0.695 if weak else 0.68}
    monkeypatch.setattr(stages, "mean_dice", lambda network, _cases: known[type(network)])
    recipe = make_recipe(student={"name": "enet"})
    events = []
    distil(recipe, tmp_path / "run", device="cpu", listener=events.append)
    notes = notes_of(events, "The teacher has a Dice of 0.700")
    assert len(notes) == weak
    assert all("0.695" in note and "stages.teacher.steps" in note for note in notes)
    assert len(notes_of(events, "Distilled, the student has", step=3)) == 1


def notes_of(events, beginning, step=0):
    noted = [event for event in events if isinstance(event, Noted) and event.stage == "distil"]
    said = [event for event in noted if event.sentence.startswith(beginning)]
    assert all(event.step == step for event in said)
    return [event.sentence for event in said]
