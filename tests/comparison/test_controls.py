"""Controls of a gain: the student without a teacher for as long, and with the same views."""

import csv
from io import StringIO

import pytest

from src_training.comparison import controls
from src_training.comparison.controls import equal_time_run, plan_controls
from src_training.comparison.plan import BASELINE, plan_runs
from src_training.comparison.scores import UNSEEN_MEAN, summarise
from src_training.config.run_models import run_verdict
from src_training.errors import InputError
from src_training.reports.comparison import as_csv, as_markdown, as_page


def timed(distil, baseline=1.0):
    """Steps of the distillations by gkd and emkd, and of the baseline, that took these seconds."""

    def seconds(directories, stage):
        slow = stage == "distil" and "emkd" not in directories[0].path.name
        return distil if slow else baseline

    return seconds


def run_all(plan):
    for run in plan:
        run.run("cpu", lambda _event: None, lambda: False)


@pytest.fixture(scope="module")
def slow_gkd():
    """A step of gkd takes three of the baseline's, one of emkd as long as those."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(controls, "step_seconds", timed(3.0))
        patch.setattr("src_training.comparison.scores.step_seconds", timed(3.0))
        yield


@pytest.fixture(scope="module")
def plan(finished_run, slow_gkd, tmp_path_factory):
    """Two distillations of one seed, done."""
    out = tmp_path_factory.mktemp("controls")
    recipe = finished_run.recipe.changed({"distillation.gkd.predictions": 20}, "tiny")
    planned = plan_runs([recipe], ["gkd", "emkd"], [0], out)
    run_all(planned)
    return planned


@pytest.fixture(scope="module")
def beside(plan):
    """Their controls, done."""
    planned = plan_controls(plan)
    run_all(planned)
    return planned


def gain_rows(comparison):
    lines = as_markdown(comparison, "tiny").splitlines()
    start = lines.index(f"## Gain in Dice over each control, {UNSEEN_MEAN}")
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[start + 2 :]]
    head, _, *rows = table[: table.index([])]
    return {row[0]: dict(zip(head, row, strict=True)) for row in rows}


def test_controls_are_those_that_each_distillation_has(plan):
    found = {run.label: run for run in plan_controls(plan)}
    # A step of emkd takes as long as one of the baseline, which is its control then.
    assert list(found) == ["gkd-equal-time", "gkd-masks", "emkd-plain-teacher"]
    alone, masks, plain = found.values()
    assert alone.recipe.masks_alone.longer == 3 and alone.recipe.schedule("distil").steps == 9
    style = masks.recipe.masks_alone
    assert (style.views, style.ce, style.mixed) == (2, 20, 0)
    assert [each.teacher_sees for each in plain.recipe.distillation] == ["plain"]
    assert all(run.shares_with.model.exists() for run in found.values())


def test_function_matching_is_compared_with_mixed_masks(plan, finished_run, tmp_path):
    recipe = finished_run.recipe.changed(
        {"distillation": [{"method": "function_matching", "matching": 5}]}, "tiny"
    )
    (masks,) = plan_controls(plan_runs([recipe], [], [0], tmp_path), ["masks"])
    style = masks.recipe.masks_alone
    assert (style.views, style.mixed) == (0, 5)


def test_a_gain_stands_beside_what_controls_leave_of_it(plan, beside):
    found = summarise([*plan, *beside])
    rows = {row.label: row for row in found.rows}
    gkd, alone = rows["gkd"], rows["gkd-equal-time"]
    assert (gkd.seconds, alone.steps) == (9.0, 9)
    names = {kind: control.label for kind, control in gkd.controls.items()}
    assert names == {"equal_time": "gkd-equal-time", "masks": "gkd-masks"}
    for control in gkd.controls.values():
        left = gkd.dice["B"].value - rows[control.label].dice["B"].value
        assert control.gain["B"].value == pytest.approx(left)
    emkd = rows["emkd"].controls
    assert (emkd["equal_time"].label, emkd["plain"].label) == (BASELINE, "emkd-plain-teacher")
    assert not alone.controls
    cells = gain_rows(found)["gkd"]
    left = gkd.controls["equal_time"].gain[UNSEEN_MEAN].value
    assert cells["student alone, equal time"].startswith(f"{left:+.3f}")
    assert cells["student alone, equal time"].endswith("over gkd-equal-time")
    assert "gkd took 9.0 s (3 steps); at equal time, gkd-equal-time" in as_page(found, "tiny")
    lines = list(csv.DictReader(StringIO(as_csv(found))))
    line = next(each for each in lines if (each["model"], each["domain"]) == ("gkd", "B"))
    assert line["equal_time_control"] == "gkd-equal-time" and line["seconds"] == "9"
    expected = gkd.controls["equal_time"].gain["B"].value
    assert float(line["equal_time_gain"]) == pytest.approx(expected, abs=1e-5)


def test_a_control_that_was_not_trained_is_named(plan):
    found = summarise(plan)
    cells = gain_rows(found)["gkd"]
    assert cells["student alone, equal time"] == "not trained"
    assert cells["masks in the same views"] == "not trained"
    lacking = [note for note in found.notes if note.startswith("No control was trained")]
    assert "(student alone, equal time) beside gkd." in lacking[0] and "--controls" in lacking[0]
    assert gain_rows(found)["emkd"]["student alone, equal time"].endswith(f"over {BASELINE}")


def test_a_control_that_was_begun_keeps_its_steps(plan, beside, monkeypatch):
    monkeypatch.setattr(controls, "step_seconds", timed(4.0))
    assert [run.label for run in plan_controls([*plan, *beside])] == []
    (again, *_) = plan_controls(plan)
    assert again.done and again.recipe.schedule("distil").steps == 9
    assert equal_time_run(plan[0].directory).done


def test_the_verdict_of_a_run_has_its_control(plan, beside):
    verdict = run_verdict(plan[0].directory.path)
    assert verdict.control.startswith("At equal time without a teacher (9 steps, ")
    assert verdict.control in verdict.sentence
    other = run_verdict(plan[1].directory.path)
    assert "equal time" in other.control
    control = run_verdict(beside[0].directory.path)
    assert control.headline == "A control, trained without a teacher" and not control.control


def test_a_run_without_a_gain_has_no_control(plan, beside, make_recipe, tmp_path):
    with pytest.raises(InputError, match=r"took 1\.00 of the baseline's"):
        equal_time_run(plan[1].directory)
    with pytest.raises(InputError, match="no teacher taught this run"):
        equal_time_run(beside[0].directory)
    (begun,) = plan_runs([make_recipe()], [], [], tmp_path)
    begun.recipe.save(begun.directory.recipe)
    with pytest.raises(InputError, match="the run has not finished"):
        equal_time_run(begun.directory)


def test_with_few_masks_the_baseline_has_both_batches(make_recipe, slow_gkd, tmp_path):
    plan = plan_runs([make_recipe(labelled=0.5)], [], [0], tmp_path)
    found = {run.label: run.recipe.schedule("distil") for run in plan_controls(plan)}
    assert (found["tiny-equal-time"].batch, found["tiny-whole-batch"].batch) == (1, 2)


def test_a_control_has_no_flips_of_a_teacher(make_recipe, slow_gkd, tmp_path):
    teacher = {"name": "fanet", "options": {"width": 2}, "flips": True}
    recipe = make_recipe(
        teacher=teacher, distillation=[{"method": "logits", "teacher_sees": "plain"}]
    )
    (run,) = plan_controls(plan_runs([recipe], [], [0], tmp_path))
    assert run.label == "tiny-equal-time" and run.recipe.masks_alone.longer == 3
