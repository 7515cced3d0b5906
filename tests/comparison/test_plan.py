"""Planning the runs of a comparison: rows, shared stages, and invalid plans."""

import pytest
import yaml

from src_training.comparison.plan import SHARED_STAGES, load_variants, plan_runs
from src_training.distillation.gkd import GKDOptions
from src_training.errors import InputError


def test_recipes_that_differ_in_more_are_refused(make_recipe, tmp_path):
    first = make_recipe(name="one")
    allowed = make_recipe(name="two", distillation=[{"method": "gkd", "views": 3}])
    assert [run.label for run in plan_runs([first, allowed], [], [], tmp_path)] == ["one", "two"]
    for field in ({"patch": 64}, {"steps": 4}):
        with pytest.raises(InputError, match=r"two and one differ in (patch|stages)"):
            plan_runs([first, make_recipe(name="two", **field)], [], [], tmp_path)


@pytest.mark.parametrize(
    ("names", "methods", "said"),
    [
        (["one", "one"], [], "two recipes are called one"),
        (["one"], ["gkd", "gdk"], "distillation.method is 'gdk'; expected one of"),
    ],
)
def test_recipes_without_a_row_of_their_own_are_refused(
    make_recipe, tmp_path, names, methods, said
):
    with pytest.raises(InputError, match=said):
        plan_runs([make_recipe(name=name) for name in names], methods, [], tmp_path)


@pytest.mark.parametrize("method", ["gkd", "emkd"])
def test_a_run_of_a_former_recipe_is_done(make_recipe, tmp_path, method):
    (run,) = plan_runs([make_recipe()], [method], [], tmp_path)
    content = run.recipe.model_dump(mode="json", exclude={"distillation", "distil_from"})
    of_gkd = GKDOptions(views=2).model_dump(exclude={"method", "weight", "teacher_sees"})
    of_gkd["centred"] = of_gkd.pop("centered")
    content["distilling"] = {"methods": {method: 1.0}, "weights": {}, **of_gkd, "start": "alone"}
    run.directory.path.mkdir(parents=True)
    run.directory.recipe.write_text(yaml.safe_dump(content))
    run.directory.model.touch()
    assert run.done
    content["distilling"]["start"] = "fresh"
    run.directory.recipe.write_text(yaml.safe_dump(content))
    assert not run.done


def test_a_method_that_does_not_fit_is_refused_first(make_recipe, tmp_path):
    recipe = make_recipe(student={"name": "mobilenetv2", "options": {"width": 0.1}})
    with pytest.raises(InputError, match="graph_flow cannot teach this student"):
        plan_runs([recipe], ["gkd", "graph_flow"], [], tmp_path)


def test_the_ablation_of_gkd_has_every_row(make_recipe, tmp_path):
    weighs = {"intra": 0.5, "inter": 0.2, "cross": 0.1, "predictions": 7.0}
    recipe = make_recipe(distillation=[{"method": "gkd", **weighs, "views": 3}])
    plan = plan_runs([recipe], [], [0], tmp_path, load_variants("gkd"))
    runs = {run.label: run for run in plan}
    weights = {
        label: (found.intra, found.inter, found.cross, found.predictions)
        for label, found in ((label, run.recipe.distillation[0]) for label, run in runs.items())
    }
    assert weights["intra"] == (0.5, 0, 0, 0) and weights["inter"] == (0, 0.2, 0, 0)
    assert weights["cross"] == (0, 0, 0.1, 0) and weights["graphs"] == (0.5, 0.2, 0, 0)
    assert weights["predictions"] == (0, 0, 0, 7) and weights["gkd_published"] == (1, 1, 1, 0)
    assert not runs["gkd_published"].recipe.distillation[0].centered
    assert runs["centred-weights-1"].recipe.distillation[0].centered
    assert weights["all"] == (0.5, 0.2, 0.1, 7)
    assert [runs[f"{k}-views"].recipe.distillation[0].views for k in (2, 4, 8)] == [2, 4, 8]
    assert runs["fresh-start"].recipe.distil_from == "scratch"
    assert runs["softmax-edges"].recipe.distillation[0].edge_loss == "softmax"
    other = runs["image-autoencoder"]
    assert other.recipe.alignment.prior == "image" and other.shares_with == plan[0].directory
    assert set(SHARED_STAGES) - set(other.shared_stages) == {
        *("autoencoder", "vectors", "tan", "san", "san_baseline")
    }
    own = [run for run in plan if run.directory not in (plan[0].directory, other.directory)]
    assert len(own) == 12 and all(run.shared_stages == SHARED_STAGES for run in own)


def test_controls_have_no_teacher_and_the_same_stages_before(make_recipe, tmp_path):
    plan = plan_runs([make_recipe(labelled=0.5)], [], [0], tmp_path, load_variants("controls"))
    first, *controls = plan
    assert first.recipe.masks_alone is None
    assert all(run.recipe.masks_alone is not None for run in controls)
    assert all(run.shared_stages == SHARED_STAGES for run in controls)
    schedules = {run.label: run.recipe.schedule("distil") for run in controls}
    assert [schedules[f"alone-{n}x"].steps for n in (2, 3, 6)] == [6, 9, 18]
    assert (schedules["alone-3x"].batch, schedules["alone-whole-batch"].batch) == (1, 2)


def test_rows_of_equal_recipes_are_one_run(make_recipe, tmp_path):
    recipe = make_recipe(
        distillation=[
            {"method": "gkd", "weight": 0, "views": 2, "predictions": 2},
            {"method": "emkd"},
        ]
    )
    plan = plan_runs([recipe], [], [0, 1], tmp_path, load_variants("gkd"))
    assert len(plan) == 30
    assert all(
        [(each.method, each.weight) for each in run.recipe.distillation] == [("gkd", 1)]
        for run in plan
    )
    runs = {run.name: run for run in plan}
    for seed in (0, 1):
        whole = runs[f"all, seed {seed}"]
        for label in ("2-views", "mse-edges"):
            same = runs[f"{label}, seed {seed}"]
            assert (same.directory, same.recipe) == (whole.directory, whole.recipe)
    assert len({run.directory for run in plan}) == 26


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1, 2]", "expected names, each with fields"),
        ("a: 1", "expected names, each with fields"),
        ("../a: {}", "expected names, each with fields"),
        ("a: {distillation.gkd.nothing: 1}", "a: the field distillation.gkd.nothing is unknown"),
        ("a: {patch: 96}\nb: {}", "b and a differ in patch"),
        (
            "a: {distillation.gkd.intra: 0, distillation.gkd.inter: 0, distillation.gkd.cross: 0}",
            "all weights of the losses of gkd are 0; expected one above 0",
        ),
        ("gkd: {}", "gkd is a method and a variant"),
        ("a: [", "the file is not YAML"),
        ("teacher: {}", "a recipe is called teacher"),
    ],
)
def test_wrong_variants_are_refused(make_recipe, tmp_path, text, said):
    (tmp_path / "own.yaml").write_text(text)
    methods = ["gkd"] if text.startswith("gkd") else []
    with pytest.raises(InputError, match=said):
        plan_runs([make_recipe()], methods, [], tmp_path, load_variants(tmp_path / "own.yaml"))
