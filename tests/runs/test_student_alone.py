"""A recipe without a distillation: the student alone, from the recipe to its model."""

import pytest
from safetensors.torch import load_file

from src_training.comparison.controls import equal_time_run
from src_training.comparison.plan import plan_runs
from src_training.config.presets import recipe_for
from src_training.config.recipe import Recipe
from src_training.config.run_models import better_student, run_verdict
from src_training.errors import InputError
from src_training.inference.model_file import load_model
from src_training.runs.data import load_run_data
from src_training.runs.directory import RunDirectory
from src_training.runs.history import RunHistory
from src_training.runs.library import run_models
from src_training.runs.load import load_networks, load_pair
from src_training.runs.run import distil


@pytest.fixture(scope="module")
def alone(finished_run, tmp_path_factory):
    """The run of the same recipe as `finished_run`, without its distillation."""
    recipe = Recipe.validated(
        finished_run.recipe.model_dump(mode="json") | {"distillation": []}, "tiny"
    )
    path = tmp_path_factory.mktemp("runs") / "alone"
    distil(recipe, path, device="cpu")
    return RunDirectory(path)


def test_only_the_stages_of_the_student_are_run(alone):
    history = RunHistory()
    history.read(alone.events)
    assert list(history.stages) == ["autoencoder", "vectors", "student", "san"]
    assert {stage.state for stage in history.stages.values()} == {"done"}
    assert history.state == "finished" and history.position == ("", 0, 0)


def test_it_is_the_student_that_a_distillation_begins_from(alone, finished_run):
    own, other = (
        load_file(folder.stage("student") / "best.safetensors")
        for folder in (alone, RunDirectory(finished_run.path))
    )
    assert own.keys() == other.keys()
    assert all(weights.equal(other[name]) for name, weights in own.items())


def test_its_model_and_its_report_name_no_teacher(alone):
    report = alone.read_report()
    assert list(report) == ["student"]
    assert report["student"]["taught"] is False and report["student"]["steps"] == 3
    assert {"A, validation", "B"} == set(report["student"]["scores"])
    card = load_model(better_student(alone.path)).card
    assert (card.name, card.method) == ("tiny", "student, from masks alone")
    assert card.metrics.keys() == report["student"]["scores"].keys()
    page = (alone.report / "report.md").read_text()
    assert "teacher" not in page and "distilled" not in page
    assert run_verdict(alone.path) is None
    (entry,) = run_models(alone.path)
    assert entry.path == alone.model and not entry.better


def test_its_networks_load_and_a_pair_is_refused(alone):
    assert load_networks(alone.path).recipe.distils is False
    with pytest.raises(InputError, match="trained alone; expected a run with a teacher"):
        load_pair(alone.path)


def test_no_control_and_a_method_of_ones_own(alone, tmp_path):
    recipe = Recipe.load(alone.recipe)
    with pytest.raises(InputError, match="no teacher taught this run"):
        equal_time_run(alone)
    (run,) = plan_runs([recipe], ["logits"], [], tmp_path)
    assert [each.method for each in run.recipe.distillation] == ["logits"]


def test_images_without_masks_are_refused(make_recipe):
    domain = {"name": "C", "phantoms": {"scanner": "B", "images": 2, "size": 64}}
    with pytest.raises(InputError, match="unlabelled has domains, but no distillation uses them"):
        make_recipe(distillation=[], unlabelled=[domain])


def test_images_that_a_share_leaves_out_are_noted(make_recipe, tmp_path):
    recipe, events = make_recipe(1, distillation=[], labelled=0.5), []
    assert not recipe.semi_supervised
    distil(recipe, tmp_path / "run", device="cpu", listener=events.append)
    (note,) = (event for event in events if event.kind == "noted")
    unused = sum(map(len, load_run_data(recipe).unlabelled))
    assert note.stage == "autoencoder" and unused > 0
    assert note.sentence.startswith("labelled is 0.5, and no distillation uses images without mas")
    assert note.sentence.split(": ")[1].split()[0] == str(unused)


@pytest.mark.parametrize("time", ["quick", "standard", "full"])
def test_a_preset_trains_it_as_long_as_the_baseline(make_recipe, time):
    sources = make_recipe().sources
    with_teacher, alone = (
        recipe_for("a", sources, [], None, time, teacher=teacher) for teacher in ("fanet", None)
    )
    steps = [with_teacher.stages[stage].steps for stage in ("student", "distil")]
    assert alone.stages["student"].steps == sum(steps)
    assert not alone.distils and alone.student == with_teacher.student
