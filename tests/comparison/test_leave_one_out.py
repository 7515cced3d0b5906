"""Leave one out: each source in turn tests models that were trained on the others."""

import pytest

from src_training.comparison.plan import plan_leave_one_out
from src_training.comparison.scores import UNSEEN_MEAN, summarise
from src_training.errors import InputError


def phantoms(name):
    return {"name": name, "phantoms": {"scanner": name, "images": 3, "size": 64}, "angle": 30}


def test_each_source_is_tested_on_once(make_recipe, tmp_path):
    recipe = make_recipe(sources=[phantoms(name) for name in "ABC"], validation=0.3)
    plan = plan_leave_one_out([recipe], ["logits", "fsp"], [0, 1], tmp_path)
    assert len(plan) == 3 * 2 * 2 and len({run.name for run in plan}) == len(plan)
    for run in plan:
        trained = [source.name for source in run.recipe.sources]
        assert [test.name for test in run.recipe.tests] == [run.left_out]
        assert sorted([*trained, run.left_out]) == ["A", "B", "C"]
        assert run.directory.path.is_relative_to(tmp_path / f"without-{run.left_out}")


def test_validation_follows_the_sources(make_recipe, tmp_path):
    sources = [phantoms("A"), phantoms("B")]
    by_source = make_recipe(sources=sources, validation={"A": 0.3, "B": ["B_000"]})
    first, second = plan_leave_one_out([by_source], [], [], tmp_path)
    assert (first.recipe.validation, second.recipe.validation) == ({"B": ["B_000"]}, {"A": 0.3})
    with pytest.raises(InputError, match="validation is a list of cases; expected a share"):
        plan_leave_one_out([make_recipe(sources=sources, validation=["A_000"])], [], [], tmp_path)


def test_a_single_source_cannot_be_left_out(make_recipe, tmp_path):
    with pytest.raises(InputError, match="the sources are A; expected two or more"):
        plan_leave_one_out([make_recipe()], [], [], tmp_path)


def test_the_table_has_a_column_for_each_source(make_recipe, tmp_path):
    recipe = make_recipe(1, sources=[phantoms("A"), phantoms("B")], validation=0.3)
    plan = plan_leave_one_out([recipe], ["logits"], [], tmp_path)
    for run in plan:
        run.run("cpu", lambda _event: None, lambda: False)
    comparison = summarise(plan)
    assert comparison.domains == ["A", "B", UNSEEN_MEAN]
    assert [row.label for row in comparison.rows] == ["teacher", "student alone", "logits"]
    for row in comparison.rows:
        mean = (row.dice["A"].value + row.dice["B"].value) / 2
        assert row.dice[UNSEEN_MEAN].value == pytest.approx(mean)
    for run in plan:
        report = run.directory.read_report()["distilled"]["scores"][run.left_out]
        found = comparison.rows[-1].dice[run.left_out].value
        assert found == pytest.approx(report["mean"]["dice"])
