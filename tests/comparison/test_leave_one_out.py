"""Leave one out: each source in turn tests models that were trained on the others."""

import csv

import pytest

from src_training.comparison.plan import plan_leave_one_out, plan_runs
from src_training.comparison.scores import UNSEEN_MEAN, summarise
from src_training.errors import InputError
from src_training.runs.directory import RunDirectory


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


def test_students_alone_are_compared_over_domains(make_recipe, msankd, tmp_path):
    recipe = make_recipe(2, sources=[phantoms("A"), phantoms("B")], validation=0.3, distillation=[])
    recipe.save(tmp_path / "alone.yaml")
    words = ["compare", tmp_path / "alone.yaml", "--leave-one-out", "--seed", 1]
    said = msankd(*map(str, words), "--out", str(tmp_path / "out"), "--device", "cpu")
    assert said.code == 0, said.err
    with (tmp_path / "out" / "comparison.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert {line["model"] for line in lines} == {"student alone"}
    for domain, line in zip(["A", "B", UNSEEN_MEAN], lines, strict=True):
        assert line["domain"] == domain and line["steps"] == "2" and not line["gain"]
        assert float(line["seconds_a_step"]) > 0
    for line in lines[:2]:
        run = tmp_path / "out" / f"without-{line['domain']}" / "seed-1" / "tiny"
        dice = RunDirectory(run).read_report()["student"]["scores"][line["domain"]]["mean"]["dice"]
        assert float(line["dice_seed_1"]) == pytest.approx(dice, abs=1e-6)
    assert "teacher" not in (tmp_path / "out" / "comparison.md").read_text(encoding="utf-8")


def test_a_student_alone_stands_in_no_other_comparison(make_recipe, tmp_path):
    alone, distilled = make_recipe(distillation=[], name="alone"), make_recipe(name="distilled")
    for recipes in ([alone, distilled], [distilled, alone]):
        with pytest.raises(InputError, match="alone: the recipe has no distillation, and the stu"):
            plan_runs(recipes, [], [], tmp_path)


def test_a_student_alone_has_no_controls(make_recipe, msankd, tmp_path):
    make_recipe(distillation=[]).save(tmp_path / "alone.yaml")
    words = ["compare", str(tmp_path / "alone.yaml"), "--controls", "--out", str(tmp_path / "out")]
    said = msankd(*words)
    assert said.code == 2 and "tiny has no distillation, so it has no control" in said.err
    assert not (tmp_path / "out").exists()


def test_a_source_without_masks_is_found_first(make_recipe, make_domain, msankd, tmp_path):
    masked, bare = make_domain("masked"), make_domain("bare")
    next((bare / "masks").iterdir()).unlink()
    sources = [{"name": each.name, "folder": str(each)} for each in (masked, bare)]
    make_recipe(sources=sources, validation=0.5).save(tmp_path / "ours.yaml")
    words = ["compare", str(tmp_path / "ours.yaml"), "--leave-one-out"]
    said = msankd(*words, "--out", str(tmp_path / "out"))
    assert said.code == 2 and "has no mask for" in said.err and not (tmp_path / "out").exists()
