"""Test domains whose scanner is unseen, and those that a student was adapted to without masks."""

import json

import pytest

from src_training.comparison.plan import plan_runs
from src_training.comparison.scores import ADAPTED_MEAN, UNSEEN_MEAN, summarise
from src_training.config.run_models import run_verdict
from src_training.inference.model_file import read_card
from src_training.reports.comparison import as_markdown
from src_training.runs.directory import RunDirectory


def photographs(name, scanner, **more):
    return {"name": name, "phantoms": {"scanner": scanner, "images": 2, "size": 64, **more}}


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    """A run that saw scanner C without masks; scanner B is unseen. And its comparison."""
    from src_training.config.recipe import Recipe
    from tests.conftest import _content

    content = _content(1) | {
        "tests": [photographs("B", "B"), photographs("C, test", "C", seed=5)],
        "unlabelled": [photographs("C, new", "C")],
    }
    recipe = Recipe.validated(content, "adapted")
    plan = plan_runs([recipe], [], [], tmp_path_factory.mktemp("adapted"))
    for run in plan:
        run.run("cpu", lambda _event: None, lambda: False)
    return summarise(plan), plan[0].directory


def test_each_model_knows_its_own_domains(comparison):
    report = json.loads((comparison[1].report / "report.json").read_text())
    kinds = {role: found["domain_kinds"] for role, found in report.items()}
    assert kinds["distilled"] == {
        "A, validation": "validation",
        "B": "unseen",
        "C, test": "adapted",
    }
    assert kinds["baseline"]["C, test"] == kinds["teacher"]["C, test"] == "unseen"
    assert read_card(comparison[1].model).domain_kinds == kinds["distilled"]


def test_the_report_and_the_verdict_keep_kinds_apart(comparison):
    page = (comparison[1].report / "report.md").read_text()
    assert "| C, test | distilled | adapted |" in page and "| B | distilled | unseen |" in page
    verdict = run_verdict(comparison[1].path)
    assert [each.partition(":")[0] for each in verdict.by_kind] == [
        "Unseen (B)",
        "Adapted (C, test)",
    ]
    assert "B (unseen), C, test (adapted)" in verdict.sentence
    assert all(each in verdict.sentence for each in verdict.by_kind)


def test_a_comparison_has_a_mean_and_a_gain_of_each_kind(comparison):
    found, _ = comparison
    assert found.means == [ADAPTED_MEAN, UNSEEN_MEAN]
    row = found.rows[-1]
    assert row.dice[ADAPTED_MEAN].value == row.dice["C, test"].value
    assert row.dice[UNSEEN_MEAN].value == row.dice["B"].value
    page = as_markdown(found, "kinds")
    assert all(f"over each control, {kind}" in page for kind in (ADAPTED_MEAN, UNSEEN_MEAN))
    assert "Adapted, as distilled students saw" in page


def test_a_field_says_which_scanner_images_are_of(make_recipe):
    test, new = photographs("theirs", "B"), photographs("further", "C")
    apart = make_recipe(tests=[test], unlabelled=[new])
    together = make_recipe(tests=[test | {"scanner": "X"}], unlabelled=[new | {"scanner": "X"}])
    assert apart.kind_of(apart.tests[0]) == "unseen"
    assert together.kind_of(together.tests[0]) == "adapted"
    source = make_recipe(tests=[photographs("again", "A")])
    assert source.kind_of(source.tests[0]) == "source"


def test_the_end_of_distil_says_each_kind(msankd, comparison, tmp_path):
    directory = RunDirectory(comparison[1].path)
    end = msankd("distil", "--resume", directory.path).out
    assert "Unseen (B): Dice baseline" in end and "Adapted (C, test): Dice baseline" in end
