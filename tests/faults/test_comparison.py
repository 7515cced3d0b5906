"""A comparison and the paraphraser's stage can be resumed after a kill."""

import csv
import signal

import pytest

from src_training.config.recipe import Recipe
from src_training.runs.directory import RunDirectory
from src_training.runs.run import distil
from tests.faults.harness import Fault, in_child, moments, msankd, posix
from tests.runs.test_resume import assert_same_outcome

pytestmark = [posix, pytest.mark.slow, pytest.mark.timeout(3600)]

METHODS = ("gkd", "logits")


@pytest.fixture
def recipe_file(make_recipe, tmp_path):
    make_recipe(steps=2).save(tmp_path / "recipe.yaml")
    return tmp_path / "recipe.yaml"


def compare(recipe, out, change=10**6):
    methods = [each for method in METHODS for each in ("--method", method)]
    options = (*methods, "--device", "cpu", "--out", out)
    return in_child(msankd, "compare", recipe, *options, fault=Fault("killed", out, change))


def scores_of(out):
    """The table without durations."""
    with (out / "comparison.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["model"] for row in rows} > set(METHODS) and any(row["gain"] for row in rows)
    return [{n: cell for n, cell in row.items() if "seconds" not in n} for row in rows]


def test_a_killed_comparison_goes_on_to_the_same_table(recipe_file, tmp_path):
    whole = compare(recipe_file, tmp_path / "whole")
    assert whole.code == 0, whole.said
    for change in moments(27, 3, whole.changes):
        killed = compare(recipe_file, tmp_path / "out", change)
        assert killed.code in (0, -signal.SIGKILL), killed.said
    done = compare(recipe_file, tmp_path / "out")
    assert done.code == 0, done.said
    assert scores_of(tmp_path / "out") == scores_of(tmp_path / "whole")
    for run in (tmp_path / "whole" / "seed-0").iterdir():
        other = tmp_path / "out" / "seed-0" / run.name
        reports = [RunDirectory(each).read_report() for each in (run, other)]
        for report in reports:
            for outcome in report.values():
                del outcome["seconds_per_image"], outcome["step_seconds"]
        assert reports[0] == reports[1]


def test_a_run_killed_while_it_fits_the_paraphraser_ends_alike(make_recipe, finished_run, tmp_path):
    recipe = make_recipe(
        distillation=[{"method": "graph_flow"}],
        stages={**finished_run.recipe.model_dump()["stages"], "paraphraser": {"steps": 4}},
    )
    recipe.save(tmp_path / "recipe.yaml")
    whole = finished_run._replace(recipe=recipe, path=tmp_path / "whole")
    distil(Recipe.load(tmp_path / "recipe.yaml"), whole.path, device="cpu")
    path = tmp_path / "run"
    fault = Fault("killed", path / "stages" / "paraphraser", 2)
    begins = ("distil", tmp_path / "recipe.yaml", "--out", path, "--device", "cpu")
    assert in_child(msankd, *begins, fault=fault).code == -signal.SIGKILL
    assert RunDirectory(path).begun("baseline") and not RunDirectory(path).begun("distil")
    for change in (3, 5, 7):
        fault = Fault("killed", path / "stages" / "paraphraser", change)
        resumed = in_child(msankd, "distil", "--resume", path, "--device", "cpu", fault=fault)
        assert resumed.code in (0, -signal.SIGKILL), resumed.said
    distil(recipe, path, resume=True, device="cpu")
    assert_same_outcome(path, whole)
