"""A new stage is one file and one entry of the registry."""

import sys
from types import ModuleType

import pytest

from src_training.config.recipe import Recipe
from src_training.config.stages import STAGES, StageSpec, stages_of
from src_training.errors import InputError
from src_training.runs.data import load_run_data
from src_training.runs.directory import RunDirectory
from src_training.runs.estimate import estimate
from src_training.runs.events import RunStarted, StepDone
from src_training.runs.history import RunHistory
from src_training.runs.load import load_networks
from src_training.runs.run import distil
from src_training.training.stages.supervised import SupervisedStage


def build_warm_up(networks):
    """A stage that trains the teacher on, before anything is aligned to it."""
    return SupervisedStage("warm_up", networks.teacher, "dice_ce")


@pytest.fixture
def warm_up(monkeypatch):
    """Registers the stage after the teacher's."""
    module = ModuleType("src_training.training.stages.warm_up")
    module.build_warm_up = build_warm_up
    monkeypatch.setitem(sys.modules, module.__name__, module)
    spec = StageSpec(
        "warm_up",
        "Warm-up",
        "Trains the teacher on with soft Dice.",
        "warm_up:build_warm_up",
        scored_by="dice",
        shared="always",
    )
    former = dict(STAGES)
    STAGES.clear()
    STAGES.update({"teacher": former["teacher"], "warm_up": spec} | former)
    yield spec
    STAGES.clear()
    STAGES.update(former)


def test_a_recipe_has_to_give_its_schedule(warm_up, tiny_content):
    with pytest.raises(InputError, match="stage 'warm_up' is missing; expected an entry"):
        Recipe.validated(tiny_content, "tiny")


def test_a_run_trains_scores_and_reloads_it(warm_up, tiny_content, tmp_path):
    tiny_content["stages"]["warm_up"] = {"steps": 2, "batch": 2, "validate_every": 2}
    recipe = Recipe.validated(tiny_content, "tiny")
    names = [spec.name for spec in stages_of(recipe)]
    assert names[:2] == ["teacher", "warm_up"]
    events = []
    distil(recipe, tmp_path / "run", device="cpu", listener=events.append)
    started = next(event for event in events if isinstance(event, RunStarted))
    assert started.stages == names
    steps = [event for event in events if isinstance(event, StepDone) and event.stage == "warm_up"]
    assert [event.step for event in steps] == [1, 2]
    assert steps[0].losses.keys() == {"segmentation/ce", "segmentation/dice"}
    history = RunHistory()
    for event in events:
        history.take(event)
    assert 0 <= history.stages["warm_up"].score <= 1
    assert (RunDirectory(tmp_path / "run").stage("warm_up") / "best.safetensors").exists()
    assert load_networks(tmp_path / "run").recipe == recipe


def test_an_estimate_counts_it(warm_up, tiny_content):
    tiny_content["stages"]["warm_up"] = {"steps": 2, "batch": 2, "validate_every": 2}
    recipe = Recipe.validated(tiny_content, "tiny")
    assert len(load_run_data(recipe).sources) == 1
    assert estimate(recipe, "cpu").stage_seconds["warm_up"] > 0
