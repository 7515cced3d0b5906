"""The gradients of the losses beside that of the masks, and what is said of them."""

import re

import pytest
import torch
from lightning_fabric import Fabric

from src_training.alignment.msan import AlignmentNetwork
from src_training.data.patches import Batch
from src_training.events import Noted
from src_training.networks import build_network
from src_training.recipe import Distilling, Recipe
from src_training.training.balance import gradient_ratios, loud_in_words
from src_training.training.distilling import Distil, distillations_of
from src_training.training.run import distil

VIEWS = 2


def stage_of(method="gkd", **weights):
    torch.manual_seed(0)
    student, teacher = build_network("fanet", 1, 2, width=2), build_network("fanet", 1, 2, width=3)
    aligned = [
        (network, AlignmentNetwork(network.bottleneck_channels, (4, 4), latent=8, hidden=4))
        for network in (student, teacher)
    ]
    chosen = Distilling(methods={method: 1.0}, views=VIEWS, **weights)
    taught = distillations_of(chosen, teacher, student)
    return Distil(*aligned, *taught, VIEWS, "dice_ce")


def batch():
    torch.manual_seed(1)
    mask = torch.randint(2, (2, 32, 32))
    image = (mask[:, None] + torch.rand(2, 1, 32, 32)) / 2
    return Batch(image, mask, torch.rand(2 * VIEWS, 1, 32, 32), image)


def stage_weights(recipe):
    networks = build_network("fanet", 1, 2, width=3), build_network("fanet", 1, 2, width=2)
    return distillations_of(recipe.distilling, *networks)[1]


def ratios_of(stage):
    return gradient_ratios(stage, batch(), "dice_ce", Fabric(accelerator="cpu", devices=1))


def test_a_ratio_is_that_of_two_backward_passes():
    stage = stage_of(intra=3.0)
    found = ratios_of(stage)
    norms = {}
    for names in (("ce", "dice"), ("intra",)):
        stage.train().zero_grad()
        losses = stage(batch())
        sum(stage.weights.get(name, 1.0) * losses[name] for name in names).backward()
        gradients = [each.grad for each in stage.trained.parameters() if each.grad is not None]
        norms[names[0]] = torch.cat([each.flatten() for each in gradients]).double().norm()
    assert found.keys() == {"intra", "inter", "cross"}
    assert found["intra"] == pytest.approx(float(norms["intra"] / norms["ce"]), rel=1e-4)


def test_a_ratio_grows_with_its_weight_alone():
    one, ten = ratios_of(stage_of(inter=1.0)), ratios_of(stage_of(inter=10.0))
    assert ten["inter"] == pytest.approx(10 * one["inter"], rel=1e-4)
    assert ten["intra"] == pytest.approx(one["intra"], rel=1e-4)


@pytest.mark.parametrize("method", ["gkd", "graph_flow"])
def test_the_stage_stays_as_it_is_and_a_critic_does_not_count(method):
    stage = stage_of(method)
    before = {name: tensor.clone() for name, tensor in stage.state_dict().items()}
    found = ratios_of(stage)
    assert all(torch.equal(tensor, before[name]) for name, tensor in stage.state_dict().items())
    assert all(each.grad is None for each in stage.parameters())
    assert found.get("critic", 0.0) == 0.0


def test_what_is_loud_is_said_with_the_weight_that_would_not_be():
    (said,) = loud_in_words({"intra": 24.6, "cross": 0.7})
    assert "distilling.intra" in said and "25 times" in said
    (said,) = loud_in_words({"rad_high": 5.2})
    field = re.search(r"\(([\w.]+)\)", said)[1]
    recipe = Recipe.load("phantom", {"distilling.methods": "{emkd: 1}", field: "0.2"})
    assert stage_weights(recipe)["rad_high"] == 0.2


@pytest.mark.parametrize(("weight", "said"), [(1e6, True), (1e-9, False)])
def test_a_run_says_so_before_its_first_step(weight, said, make_recipe, tmp_path):
    recipe = make_recipe(distilling={"intra": weight, "inter": 0, "cross": 0, "views": 2})
    events = []
    distil(recipe, tmp_path / "run", device="cpu", listener=events.append)
    notes = [event for event in events if isinstance(event, Noted) and event.stage == "distil"]
    assert [("intra" in note.sentence, note.step) for note in notes] == [(True, 0)] * said
