"""Estimating the cost of a run from a few real steps."""

import json

import pytest

from src_training.config.stages import REQUIRED_STAGES, STAGES
from src_training.errors import InputError
from src_training.runs import estimate as estimating
from src_training.runs.data import load_run_data
from src_training.runs.estimate import Estimate, estimate
from src_training.runs.events import StageFinished, StageStarted, StepDone, Validated
from src_training.training.interruption import Interrupted

PLAN = {"steps": 500, "batch": 32, "validate_every": 50}


@pytest.fixture
def scripted(monkeypatch):
    """Estimate a recipe whose trial events arrive at scripted times."""
    clock = {"now": 0.0}
    trials = []

    class ScriptedPipeline:
        def __init__(self, recipe, data, _directory):
            self.recipe, self.data = recipe, data
            trials.append(self)

    def execute(_pipeline, _fabric, emit, _stopping):
        def after(seconds, event):
            clock["now"] += seconds
            emit(event)

        for number, stage in enumerate(REQUIRED_STAGES):
            after(0 if number else 3, StageStarted(stage=stage, step=0, steps=3))
            for step, seconds in enumerate((60, 2.5, 2), start=1):
                after(seconds, StepDone(stage=stage, step=step, total=1.0, losses={}))
            after(4, Validated(stage=stage, step=3, score=0.0, best=True))
            after(1, StageFinished(stage=stage, score=0.0, seconds=0.0))
        clock["now"] += 10

    monkeypatch.setattr(estimating, "Pipeline", ScriptedPipeline)
    monkeypatch.setattr(estimating, "execute", execute)
    monkeypatch.setattr(estimating.time, "perf_counter", lambda: clock["now"])

    def run(recipe, **options):
        return estimate(recipe, "cpu", **options), trials[-1]

    return run


def recipe_of(make_recipe, images, **fields):
    source = {"name": "A", "phantoms": {"scanner": "A", "images": images, "size": 64}}
    stages = {name: dict(PLAN) for name in REQUIRED_STAGES if STAGES[name].in_recipe} | {
        "paraphraser": {"steps": 500}
    }
    return make_recipe(source=source, stages=stages, **fields)


def test_progress_is_a_guess_that_becomes_the_estimate(scripted, make_recipe, monkeypatch):
    steps = []
    monkeypatch.setattr(estimating, "_patch_seconds", lambda *_: 0.01)
    found, _ = scripted(recipe_of(make_recipe, 10), progress=steps.append)
    # 32 patches of 500 steps by the teacher, and by each of three students and six others.
    assert 160 < steps[0].roughly < 160 * 11 * 2
    assert found.seconds - found.scoring == pytest.approx(steps[-1].roughly)
    first = next(step for step in steps if step.part == "TAN")
    assert steps[0].roughly < first.roughly < steps[-1].roughly
    assert [steps[0].part, steps[-1].part] == ["Reading images", "Scoring"]
    assert steps[-1].done == steps[-1].total - 1
    assert [step.done for step in steps] == sorted(step.done for step in steps)


def test_a_trial_has_few_images_few_steps_and_small_batches(scripted, make_recipe):
    _, trial = scripted(recipe_of(make_recipe, 10))
    assert [len(each) for each in trial.data.sources] == [2]
    assert [len(each) for each in trial.data.validation] == [1]
    plans = trial.recipe.stages.values()
    assert {(plan.steps, plan.validate_every) for plan in plans} == {(3, 3)}
    assert trial.recipe.stages["teacher"].batch == 16, "a batch of 32 is cut"
    assert trial.recipe.stages["paraphraser"].batch == 8, "a batch of 8 is tried as it is"
    assert trial.recipe.teacher == recipe_of(make_recipe, 10).teacher


def test_steps_scale_with_the_batch_validations_with_images(scripted, make_recipe):
    found, _ = scripted(recipe_of(make_recipe, 10, validation=0.5))
    steps, validations = 500 * 2 * (32 / 16), 10 * (4 * 5 + 1)
    assert set(found.stage_seconds) == set(REQUIRED_STAGES)
    assert found.stage_seconds["teacher"] == pytest.approx(steps + validations)
    assert found.stage_seconds["baseline"] == found.stage_seconds["distil"]


def test_what_comes_before_and_after_grows_with_the_images(scripted, make_recipe):
    found, _ = scripted(recipe_of(make_recipe, 10, validation=0.5))
    assert found.preparing == pytest.approx(3 * 10 / 3)
    assert found.scoring == pytest.approx(10 * 12 / 5)
    total = found.preparing + found.scoring + sum(found.stage_seconds.values())
    assert found.seconds == pytest.approx(total)


def test_memory_grows_with_the_images_and_the_batch(scripted, make_recipe, monkeypatch):
    peaks = iter([9000, 1000, 1500, 3000, *[1000] * 8])
    monkeypatch.setattr(estimating._Memory, "take", lambda _self: next(peaks))
    found, _ = scripted(recipe_of(make_recipe, 10, validation=0.5))
    held = 3 * 64 * 64 * (4 + estimating._BYTES_PER_PIXEL)
    assert found.memory == 1000 + (3000 - 1000) * 32 // 16 + held


def test_cases_without_masks_are_tried_and_counted(scripted, make_recipe, monkeypatch):
    peaks = iter([9000, *[1000] * 11])
    monkeypatch.setattr(estimating._Memory, "take", lambda _self: next(peaks))
    recipe = recipe_of(make_recipe, 10, validation=0.2, labelled=0.25)
    found, trial = scripted(recipe)
    data = load_run_data(recipe)
    assert (len(data.sources[0]), len(data.unlabelled[0])) == (2, 6)
    assert trial.recipe.semi_supervised
    assert set(trial.data.unlabelled[0].names) <= set(data.unlabelled[0].names)
    assert trial.data.sources[0].names == data.sources[0].names
    assert found.preparing == pytest.approx(3 * (2 + 2 + 6) / (2 + 1 + 2))
    assert found.memory == 1000 + (6 - 2) * 64 * 64 * (4 + estimating._BYTES_PER_PIXEL)
    # The report includes only domains with masks.
    assert found.scoring == pytest.approx(10 * (2 + 2 + 2) / (2 + 1 + 2))


def test_a_recipe_without_labelled_cases_is_refused(make_recipe):
    source = {"name": "A", "phantoms": {"scanner": "A", "images": 2, "size": 64}}
    with pytest.raises(InputError, match=r"labelled is 0\.5, but one image alone"):
        estimate(make_recipe(source=source, validation=0.5, labelled=0.5), "cpu")


@pytest.mark.parametrize("fields", [{}, {"labelled": 0.5}])
def test_a_real_trial_tells_every_stage_and_leaves_nothing(
    fields, make_recipe, tmp_path, monkeypatch
):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    found = estimate(make_recipe(50, **fields), "cpu")
    assert tuple(found.stage_seconds) == REQUIRED_STAGES
    assert all(0 < seconds < 600 for seconds in found.stage_seconds.values())
    assert found.device == "cpu" and 1e7 < found.memory < 1e11
    assert list(tmp_path.iterdir()) == []


def test_one_image_is_tried_too_and_what_that_means_is_told(make_recipe):
    source = {"name": "A", "phantoms": {"scanner": "A", "images": 1, "size": 64}}
    found = estimate(make_recipe(1, source=source, tests=[]), "cpu")
    assert len(found.notes) == 1 and "validation uses 1 image" in found.notes[0]


def test_an_estimate_comes_back_from_json():
    found = Estimate("cpu", 10**9, 1.5, {"teacher": 2.0}, 0.5, ("a note",))
    content = json.loads(json.dumps(found.to_dict()))
    assert content["seconds"] == 4 and Estimate.from_dict(content) == found


def test_an_estimate_can_be_stopped(make_recipe):
    with pytest.raises(Interrupted):
        estimate(make_recipe(), "cpu", stopping=lambda: True)


def test_a_source_that_is_not_there_is_named(make_recipe, tmp_path):
    with pytest.raises(InputError, match="none has no readable image"):
        estimate(make_recipe(source={"name": "A", "folder": str(tmp_path / "none")}), "cpu")


def test_the_last_line_of_the_command_is_the_estimate(make_recipe, tmp_path, msankd, monkeypatch):
    found = Estimate("cpu", 10**9, 1.5, {"teacher": 2.0}, 0.5)
    monkeypatch.setattr(estimating, "estimate", lambda _recipe, _device, **_: found)
    make_recipe().save(tmp_path / "tiny.yaml")
    said = msankd("estimate", tmp_path / "tiny.yaml", "--json", "-")
    assert Estimate.from_dict(json.loads(said.out.splitlines()[-1])) == found
    said = msankd("estimate", tmp_path / "tiny.yaml", "--json", tmp_path / "e.json")
    assert "teacher" in said.out
    assert json.loads((tmp_path / "e.json").read_text())["seconds"] == 4


def test_inspect_names_every_case_and_problem(make_domain, msankd):
    folder = make_domain()
    said = msankd("inspect", folder)
    assert said.err == "" and all(name in said.out for name in ("000", "002", "foreground"))
    (folder / "masks" / "001.png").unlink()
    said = msankd("inspect", folder)
    assert said.code == 1 and "001.png has no mask" in said.err
