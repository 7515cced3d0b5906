"""Recipes, runs and comparisons support a newly registered method and its options."""

import pytest
import torch
import yaml

from src_training.alignment.alignment_network import AlignmentNetwork
from src_training.comparison.plan import plan_runs
from src_training.comparison.scores import summarise
from src_training.config.recipe import Recipe
from src_training.data.sampling import Batch
from src_training.distillation import METHODS
from src_training.distillation.gkd import DCGD, GKDOptions
from src_training.errors import InputError
from src_training.inference.model_file import read_card
from src_training.networks import build_network
from src_training.runs.events import StepDone, read_events
from src_training.training.stages.distillation import DistillationStage
from tests.distillation.new_method import SPEC, MeanLogits


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(METHODS, "mean_logits", SPEC)


@pytest.fixture
def recipe(make_recipe):
    return make_recipe(distillation=[{"method": "mean_logits", "power": 3}], supervised="dice_ce")


def test_recipes_hold_its_options(recipe, make_recipe):
    assert Recipe.validated(yaml.safe_load(recipe.to_yaml()), "again") == recipe
    (options,) = recipe.changed({"distillation.mean_logits.ce": 2}, "set").distillation
    assert (options.power, options.ce, options.weight) == (3, 2.0, 1.0)
    with pytest.raises(InputError, match=r"distillation.mean_logits.power is 0; expected at least"):
        make_recipe(distillation=[{"method": "mean_logits", "power": 0}])


class ReadsVectors(MeanLogits):
    """Record the vectors that it is called with."""

    reads_vectors = True

    def losses(self, teacher, student, mask):
        self.vectors = teacher.vectors, student.vectors
        return super().losses(teacher, student, mask)


def stage_of(*parts):
    torch.manual_seed(0)
    student, teacher = build_network("fanet", 1, 2, width=2), build_network("fanet", 1, 2, width=3)
    pairs = [
        (network, AlignmentNetwork(network.bottleneck_channels, (4, 4), latent=8, hidden=4))
        for network in (student, teacher)
    ]
    return DistillationStage(*pairs, parts, "ce")


def test_each_method_has_its_own_number_of_views():
    class TwoViews(ReadsVectors):
        views = 2

    two, four = TwoViews(SPEC.options()), DCGD(GKDOptions(views=4))
    stage = stage_of(two, four)
    assert stage.views == 4
    image, mask = torch.rand(2, 1, 32, 32), torch.zeros(2, 32, 32, dtype=torch.long)
    losses = stage(Batch(image, mask, torch.rand(8, 1, 32, 32), image))
    assert [vectors.shape for vectors in two.vectors] == [(2, 3, 8)] * 2
    assert losses["gkd/intra"] > 0


def test_two_losses_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two losses are called mean_logits/ce"):
        stage_of(MeanLogits(SPEC.options()), MeanLogits(SPEC.options()))


def test_rows_of_a_comparison_train_by_it(recipe, tmp_path):
    rows = {
        power: {"distillation": "mean_logits", "distillation.mean_logits.power": int(power)}
        for power in ("2", "4")
    }
    plan = plan_runs([recipe], [], [0], tmp_path, rows)
    for run in plan:
        run.run("cpu", lambda _event: None, lambda: False)
    of_method = [f"distillation.mean_logits.{name}" for name in ("power",)]
    assert [list(row.settings) for row in summarise(plan).rows[2:]] == [of_method] * 2
    assert "mean logits (tests)" in read_card(plan[0].directory.model).method
    steps = [
        event
        for run in plan
        for event in read_events(run.directory.events)
        if isinstance(event, StepDone) and event.stage == "distil"
    ]
    assert len(steps) == 6
    for step in steps:
        # The name `ce` is also that of the supervised loss; both are logged.
        losses = step.losses
        assert losses.keys() == {"segmentation/ce", "segmentation/dice", "mean_logits/ce"}
        masks = losses["segmentation/ce"] + losses["segmentation/dice"]
        assert losses["segmentation/ce"] > 0.3
        assert step.total == pytest.approx(masks + 0.5 * losses["mean_logits/ce"], rel=1e-5)
