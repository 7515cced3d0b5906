"""A method that is registered is known to recipes, runs and comparisons, options and all."""

import pytest
import yaml

from src_training.comparison.plan import plan_runs
from src_training.comparison.scores import summarise
from src_training.config.recipe import Recipe
from src_training.distillation import METHODS
from src_training.errors import InputError
from src_training.inference.model_file import read_card
from src_training.runs.events import StepDone, read_events
from tests.distillation.new_method import SPEC


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
        # Its loss has the name of the masks' own, and neither takes the place of the other.
        losses = step.losses
        assert losses.keys() == {"segmentation/ce", "segmentation/dice", "mean_logits/ce"}
        masks = losses["segmentation/ce"] + losses["segmentation/dice"]
        assert losses["segmentation/ce"] > 0.3
        assert step.total == pytest.approx(masks + 0.5 * losses["mean_logits/ce"], rel=1e-5)
