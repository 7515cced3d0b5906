"""Methods compared under one teacher, student, data and count of steps."""

import csv
import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from rich.console import Console
from safetensors.torch import load_file

from src_training.cli import console
from src_training.comparison.plan import (
    BASELINE,
    SHARED_STAGES,
    TEACHER,
    plan_runs,
)
from src_training.comparison.scores import UNSEEN_MEAN, summarise
from src_training.distillation.gkd import GKDOptions
from src_training.errors import InputError
from src_training.reports.comparison import as_markdown, as_page
from src_training.runs.directory import RunDirectory
from src_training.runs.events import StepDone, read_events
from src_training.training.interruption import Interrupted

METHODS = ["gkd", "logits", "emkd"]


def stages_trained(run):
    events = read_events(run.directory.events)
    return {event.stage for event in events if isinstance(event, StepDone)}


@pytest.fixture(scope="module")
def recipe(finished_run):
    return finished_run.recipe


@pytest.fixture(scope="module")
def plan(recipe, tmp_path_factory):
    """Three methods and two seeds, all run; the second run was interrupted once."""
    out = tmp_path_factory.mktemp("comparison")
    planned = plan_runs([recipe], METHODS, [0, 1], out)
    for index, run in enumerate(planned):
        if index == 1:
            done = []
            with pytest.raises(Interrupted):
                run.run(
                    "cpu", done.append, lambda done=done: any(e.kind == "step_done" for e in done)
                )
            assert not run.done
        run.run("cpu", lambda _event: None, lambda: False)
        assert run.done
    return planned


def test_shared_stages_are_trained_once_for_each_seed(plan):
    for first, *others in (plan[:3], plan[3:]):
        assert stages_trained(first) == {*SHARED_STAGES, "distil", "san_distilled"}
        for other in others:
            assert stages_trained(other) == {"distil", "san_distilled"}
            for stage in SHARED_STAGES:
                ours, theirs = (
                    load_file(run.directory.stage(stage) / "best.safetensors")
                    for run in (other, first)
                )
                assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())
    teachers = [load_file(run.directory.stage("teacher") / "best.safetensors") for run in plan[::3]]
    assert any(not torch.equal(tensor, teachers[1][n]) for n, tensor in teachers[0].items())


def test_a_later_method_shares_stages_of_a_finished_run(plan, recipe):
    out = plan[0].directory.path.parents[1]
    later, again = plan_runs([recipe], ["attention", "gkd"], [1], out)
    assert (
        later.shares_with in [run.directory for run in plan[3:]]
        and later.shared_stages == SHARED_STAGES
    )
    assert again.shares_with != again.directory and again.done
    longer = recipe.changed({"stages.teacher.steps": 9}, "longer")
    (apart,) = plan_runs([longer], ["attention"], [1], out)
    assert apart.shares_with is None


def test_teacher_and_baseline_are_scored_once_for_each_seed(plan):
    for first, *others in (plan[:3], plan[3:]):
        scores = json.loads((first.directory.report / "report.json").read_text())
        for other in others:
            found = json.loads((other.directory.report / "report.json").read_text())
            assert list(found) == list(scores)
            for role in ("teacher", "baseline"):
                assert found[role] == scores[role]
                assert other.directory.outcome(role).samefile(first.directory.outcome(role))
            assert found["distilled"] != scores["distilled"]


def test_the_recipes_differ_in_distillation_alone(plan, recipe):
    for run in plan:
        assert [each.method for each in run.recipe.distillation] == [run.label]
        same = recipe.model_copy(
            update={
                "name": run.recipe.name,
                "seed": run.recipe.seed,
                "distillation": run.recipe.distillation,
            }
        )
        assert run.recipe == same


def test_every_number_is_that_of_the_reports(plan):
    found = summarise(plan[::-1])
    assert [row.label for row in found.rows] == [TEACHER, BASELINE, *METHODS[::-1]]
    assert found.domains == ["A, validation", "B", UNSEEN_MEAN]
    rows = {row.label: row for row in found.rows}
    reports = {
        (run.label, run.recipe.seed): json.loads((run.directory.report / "report.json").read_text())
        for run in plan
    }

    def dice(label, role, seed):
        images = reports[label, seed][role]["scores"]["B"]["images"]
        return np.array([image["dice"] for image in images.values()])

    alone = (dice("gkd", "baseline", 0) + dice("gkd", "baseline", 1)) / 2
    assert rows[BASELINE].dice["B"].value == pytest.approx(alone.mean())
    assert rows[BASELINE].gain == {} and rows[TEACHER].gain == {}
    for label in METHODS:
        own = (dice(label, "distilled", 0) + dice(label, "distilled", 1)) / 2
        row = rows[label]
        assert row.dice["B"].value == pytest.approx(own.mean())
        assert row.dice[UNSEEN_MEAN] == row.dice["B"]
        assert row.gain["B"].value == pytest.approx((own - alone).mean())
        assert row.gain["B"].low <= row.gain["B"].value <= row.gain["B"].high
        assert row.by_seed[1]["B"] == pytest.approx(dice(label, "distilled", 1).mean())
        assert row.step > 0
    assert np.isnan(rows[TEACHER].step)
    assert "Images: A, validation 2, B 2. A, validation, B: too few" in found.notes[-1]
    assert rows["gkd"].dice["B"].low <= rows["gkd"].dice["B"].high


def test_images_of_one_seed_alone_count(plan):
    def validated(seed):
        report = json.loads((plan[3 * seed].directory.report / "report.json").read_text())
        images = report["distilled"]["scores"]["A, validation"]["images"]
        return {name: image["dice"] for name, image in images.items()}

    first, second = validated(0), validated(1)
    assert first.keys() != second.keys()
    expected = np.mean([*first.values(), *second.values()])
    row = {row.label: row for row in summarise(plan).rows}["gkd"]
    assert row.dice["A, validation"].value == pytest.approx(expected)


def test_a_training_folder_is_not_unseen_under_another_name(plan):
    def unseen(**fields):
        runs = [replace(run, recipe=run.recipe.model_copy(update=fields)) for run in plan]
        return next((n for n in summarise(runs).notes if n.startswith("Unseen")), "")

    source, (test,) = plan[0].recipe.sources[0], plan[0].recipe.tests
    assert unseen().startswith("Unseen, as no student was trained") and ": B." in unseen()
    assert not unseen(unlabelled=[test.model_copy(update={"name": "target"})])
    of_its_scanner = test.model_copy(update={"phantoms": source.phantoms})
    assert not unseen(tests=[of_its_scanner])
    by_folder = {"phantoms": None, "folder": "/eyes"}
    parts = [
        domain.model_copy(update={**by_folder, "only": only})
        for domain, only in ((source, "a.*"), (test, "b.*"))
    ]
    assert not unseen(sources=[parts[0]], tests=parts[1:])
    elsewhere = parts[1].model_copy(update={"folder": "/others"})
    assert ": B." in unseen(sources=[parts[0]], tests=[elsewhere])


def test_the_student_alone_is_timed_by_its_own_runs_only(plan, recipe, tmp_path):
    out = tmp_path / "seed-0"
    shutil.copytree(plan[0].directory.path, out / "gkd")
    copied = [replace(plan[0], directory=RunDirectory(out / "gkd"))]
    before = summarise(copied).rows[1].step
    shutil.copytree(plan[0].directory.path, out / "other")
    recipe.model_copy(update={"patch": 64}).save(out / "other" / "recipe.yaml")
    events = (out / "other" / "events.jsonl").read_text().splitlines()
    slow = [line for line in events if '"stage":"baseline"' in line and '"step_done"' in line]
    for number in range(200):
        late = json.loads(slow[0]) | {
            "time": f"2030-01-01T{number // 60:02}:{number % 60:02}:00+00:00"
        }
        events.append(json.dumps(late))
    (out / "other" / "events.jsonl").write_text("\n".join(events) + "\n")
    assert summarise(copied).rows[1].step == before


def test_a_later_method_has_the_cost_of_the_baseline(plan):
    later = [run for run in plan if run.label == "emkd"]
    assert "baseline" not in stages_trained(later[0])
    found = summarise(later)
    assert {row.label: row.step for row in found.rows}[BASELINE] > 0
    assert "nan" not in as_markdown(found, "tiny")


def test_rows_of_one_run_have_equal_figures(plan):
    twins = [replace(run, label="twin") for run in plan if run.label == "emkd"]
    found = summarise([*plan, *twins])
    assert found.rows[-1] == replace(found.rows[-2], label="twin")
    assert found.notes.count("emkd and twin have equal recipes: one run.") == 1
    assert not [note for note in summarise(plan).notes if "one run" in note]


def test_the_page_shows_every_row_and_a_figure_for_every_domain(plan):
    found = summarise(plan)
    page = as_page(found, "tiny")
    assert page.count("<svg") == len(found.domains)
    # Alone and three methods have a cost, the teacher has none.
    assert page.count("<circle") == 4 * len(found.domains)
    assert all(f"<td>{row.label}</td>" in page for row in found.rows)
    assert "nan" not in page.lower()
    markdown = as_markdown(found, "tiny")
    assert "| student alone |" in markdown and "Seeds: 0, 1" in markdown and "nan" not in markdown


def test_the_table_has_the_gain_of_each_seed_in_their_order(plan):
    lines = as_markdown(summarise(plan[::-1]), "tiny").splitlines()
    head = next(line for line in lines if "| by seed (0, 1) |" in line).split("|")
    row = next(line.split("|") for line in lines[lines.index("|".join(head)) :] if "emkd" in line)
    gains = [float(gain) for gain in row[head.index(" by seed (0, 1) ")].split(",")]

    def mean(run, role):
        images = json.loads((run.directory.report / "report.json").read_text())[role]["scores"]["B"]
        return np.mean([image["dice"] for image in images["images"].values()])

    runs = [run for run in plan if run.label == "emkd"]
    expected = [mean(run, "distilled") - mean(run, "baseline") for run in runs]
    assert gains == pytest.approx(expected, abs=5e-4)


def test_fields_in_which_rows_differ_are_listed(plan):
    changed = plan[1].recipe.changed(
        {"distillation.logits.logits": 7, "alignment.prior": "image"}, ""
    )
    found = summarise([plan[0], replace(plan[1], recipe=changed)])
    of_gkd = [f"distillation.gkd.{name}" for name in GKDOptions.model_fields if name != "method"]
    of_logits = [f"distillation.logits.{name}" for name in ("weight", "teacher_sees", "logits")]
    fields = ["distillation", *of_gkd, "alignment.prior", *of_logits]
    assert [list(row.settings) for row in found.rows] == [[], [], fields, fields]
    settings = found.rows[-1].settings
    shown = [settings[name] for name in ("distillation", *of_logits)]
    assert shown == [["logits"], 1.0, "same", 7.0]
    assert settings["distillation.gkd.views"] is None and settings["alignment.prior"] == "image"
    markdown, page = as_markdown(found, "tiny"), as_page(found, "tiny")
    assert "| model | distillation | distillation.gkd.weight |" in markdown
    assert markdown.splitlines()[-1].startswith("| logits | logits |  |")
    assert markdown.splitlines()[-1].endswith("| image | 1 | same | 7 |")
    assert "<td>image</td><td>1</td><td>same</td><td>7</td>" in page
    assert "differ in" not in as_markdown(summarise(plan[:1]), "tiny")


def test_a_page_of_single_steps_has_no_figure_of_their_cost(plan):
    found = summarise(plan)
    untimed = replace(found, rows=[replace(row, step=math.nan) for row in found.rows])
    page = as_page(untimed, "tiny")
    assert "<svg" not in page and "nan" not in page.lower()
    assert "nan" not in as_markdown(untimed, "tiny")


def test_the_command_resumes_and_writes_three_files(recipe, plan, msankd, tmp_path, monkeypatch):
    shutil.copytree(plan[0].directory.path.parents[1], tmp_path / "out", symlinks=True)
    recipe.save(tmp_path / "tiny.yaml")
    chosen = [word for method in METHODS for word in ("--method", method)]
    seeds = ["--seed", 0, "--seed", 1]
    monkeypatch.setattr("src_training.comparison.plan.distil", pytest.fail)
    monkeypatch.setattr(console, "out", Console(width=80))
    said = msankd(
        "compare",
        tmp_path / "tiny.yaml",
        *chosen,
        *seeds,
        "--out",
        tmp_path / "out",
        "--device",
        "cpu",
    )
    assert said.code == 0, said.err
    assert "student alone" in said.out
    with (tmp_path / "out" / "comparison.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert {line["model"] for line in lines} == {TEACHER, BASELINE, *METHODS}
    assert len(lines) == 5 * 3
    emkd = next(line for line in lines if line["model"] == "emkd" and line["domain"] == "B")
    expected = next(row for row in summarise(plan).rows if row.label == "emkd")
    assert float(emkd["dice"]) == pytest.approx(expected.dice["B"].value, rel=1e-5)
    assert float(emkd["dice_seed_1"]) == pytest.approx(expected.by_seed[1]["B"], rel=1e-5)
    # The table is complete even where the terminal is narrow.
    line = (tmp_path / "out" / "comparison.md").read_text().splitlines()[-1]
    for cell in line.replace("|", " ").split():
        assert any(cell in shown for shown in said.out.splitlines()[-4:]), said.out[-2000:]
    assert (tmp_path / "out" / "comparison.html").exists()


@pytest.mark.parametrize("order", [("fine", "loud", "after"), ("loud", "after")])
def test_a_failed_row_is_named_and_the_others_run(make_recipe, msankd, tmp_path, order):
    make_recipe(1).save(tmp_path / "tiny.yaml")
    rows = {
        "fine": {},
        "loud": {"distillation.gkd.cross": 1e39},
        "after": {"distillation.gkd.views": 3},
    }
    chosen = {name: rows[name] for name in order}
    (tmp_path / "rows.yaml").write_text(yaml.safe_dump(chosen, sort_keys=False))
    words = ["compare", tmp_path / "tiny.yaml", "--variants", tmp_path / "rows.yaml"]
    said = msankd(*words, "--out", tmp_path / "out", "--device", "cpu")
    assert said.code == 1
    failed, *waits = said.err.splitlines()
    assert failed.startswith("loud, seed 0: ") and "the loss is inf at step 1" in failed
    done = {file.parent.name for file in (tmp_path / "out").rglob("model.safetensors")}
    table = tmp_path / "out" / "comparison.md"
    if "fine" in order:
        assert not waits and done == {"fine", "after"}
        assert "| fine |" in table.read_text() and "| loud |" not in table.read_text()
        assert "Left out, as one of their runs failed: loud." in table.read_text()
    else:
        assert not table.exists()
        assert not done and len(waits) == 1
        assert waits[0].startswith("after, seed 0: not begun: it takes over what loud learns")


def test_stages_are_copied_until_a_run_distils(plan, recipe, tmp_path):
    (row,) = plan_runs([recipe], ["fsp"], [0], tmp_path)
    said = []
    with pytest.raises(Interrupted):
        row.run("cpu", said.append, lambda: any(event.kind == "step_done" for event in said))
    theirs = plan[0].directory.stage("teacher") / "last.safetensors"
    own = row.directory.stage("teacher") / "last.safetensors"
    assert not own.samefile(theirs)
    joined = replace(row, shares_with=plan[0].directory)
    assert joined.prepare() and own.samefile(theirs)
    own.unlink()
    row.directory.stage("distil").mkdir()
    (row.directory.stage("distil") / "last.safetensors").touch()
    assert joined.prepare() and not own.exists()


def test_a_field_is_set_in_every_recipe(make_recipe, msankd, tmp_path, monkeypatch):
    def planned(recipes, *_others):
        assert [recipe.seed for recipe in recipes] == [3]
        raise InputError("as it should be")

    monkeypatch.setattr("src_training.comparison.plan.plan_runs", planned)
    make_recipe().save(tmp_path / "tiny.yaml")
    words = ["compare", tmp_path / "tiny.yaml", "--set", "seed=3", "--out", tmp_path / "out"]
    assert msankd(*words).err.startswith("as it should be")


def test_a_run_of_another_recipe_is_not_overwritten(plan, recipe):
    out = plan[0].directory.path.parents[1]
    (other,) = plan_runs([recipe.model_copy(update={"weight_decay": 0.5})], ["gkd"], [0], out)
    assert not other.done
    with pytest.raises(InputError, match="begun with another recipe"):
        other.run("cpu", lambda _event: None, lambda: False)


def test_another_run_in_a_directory_is_found_first(make_recipe, msankd, tmp_path, monkeypatch):
    monkeypatch.setattr("src_training.comparison.plan.distil", pytest.fail)
    make_recipe().save(tmp_path / "tiny.yaml")
    out = tmp_path / "out"
    make_recipe(patch=64).save(RunDirectory(out / "seed-0" / "fsp").recipe)
    words = ["compare", tmp_path / "tiny.yaml", "--method", "logits", "--method", "fsp"]
    said = msankd(*words, "--out", out)
    assert said.code == 2 and "begun with another recipe" in said.err
    assert not (out / "seed-0" / "logits").exists()
