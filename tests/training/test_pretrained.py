"""A teacher or a student can start from the weights of a model with the same network."""

import json
import shutil

import pytest
import torch
import yaml

from src_training.comparison.plan import plan_runs
from src_training.config.networks import find_model
from src_training.config.recipe import Recipe
from src_training.errors import InputError
from src_training.inference.model_file import load_model, read_card
from src_training.inference.shipped import shipped_models
from src_training.networks import build_network
from src_training.runs.directory import RunDirectory
from src_training.runs.events import Noted, StepDone
from src_training.runs.run import distil
from tests.run_stages import run_stages

SHIPPED = next(iter(shipped_models()))
FANET = {"name": "fanet", "options": {"width": 2}}


@pytest.fixture
def folder(tmp_path):
    return RunDirectory(tmp_path / "run")


def test_the_student_begins_with_the_weights_of_the_model(make_recipe, model_file, folder):
    trained = run_stages(make_recipe(0, student=FANET | {"start_from": str(model_file)}), folder)
    weights = load_model(model_file).network.state_dict()
    for network in (trained.baseline, trained.distilled):
        for name, tensor in network.state_dict().items():
            assert torch.equal(tensor, weights[name])
    assert not torch.equal(trained.teacher.state_dict()["head.weight"], weights["head.weight"])


def test_a_run_goes_on_when_the_model_it_started_from_is_gone(make_recipe, model_file, folder):
    recipe = make_recipe(0, student=FANET | {"start_from": str(model_file)})
    former = run_stages(recipe, folder).baseline.state_dict()
    model_file.unlink()
    for stage in ("student", "baseline", "distil"):
        shutil.rmtree(folder.stage(stage))
    again = run_stages(recipe, folder).baseline.state_dict()
    assert all(torch.equal(tensor, former[name]) for name, tensor in again.items())


def test_rows_of_a_comparison_start_from_a_model_that_is_gone(make_recipe, model_file, tmp_path):
    recipe = make_recipe(1, student=FANET | {"start_from": str(model_file)})
    plan = plan_runs([recipe], ["logits", "fsp"], [], tmp_path / "out")
    for run in plan:
        run.run("cpu", lambda _event: None, lambda: False)
        model_file.unlink(missing_ok=True)
    assert all(run.done and run.directory.start_model("student").exists() for run in plan)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"student": {"name": "erfnet"}}, "network is fanet; expected erfnet as the student's"),
        ({"teacher": {"name": "erfnet"}}, "network is fanet; expected erfnet as the teacher's"),
        (
            {"student": {"name": "fanet", "options": {"width": 4}}},
            "options is {'width': 2}; expected {'width': 4}",
        ),
        (
            {"preprocessing": {"kind": "intensity", "channels": 3}, "student": {}},
            "number of channels is 1; expected 3",
        ),
        ({"student": {"start_from": "none", "name": "enet"}}, "none: there is no such model"),
        ({"student": {"start_from": "none"}}, "none: there is no such model"),
        ({"teacher": FANET | {"train": False, "start_from": None}}, "expected a trained model"),
        ({"teacher": {"options": {"width": 4}}}, "without a name; expected both or neither"),
        ({"teacher": {"start_from": "."}}, "there is no finished run; expected model.safetensors"),
    ],
)
def test_a_model_of_another_kind_is_one_sentence(make_recipe, model_file, folder, fields, words):
    for role in fields.keys() & {"teacher", "student"}:
        fields = fields | {role: {"start_from": str(model_file)} | fields[role]}
    with pytest.raises(InputError) as caught:
        run_stages(make_recipe(0, **fields), folder)
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert not folder.path.exists()


def test_a_model_of_other_classes_is_one_sentence(make_recipe, tiny_model, folder, tmp_path):
    model = tiny_model()
    model.card = model.card.model_copy(update={"classes": ["background", "a", "b"]})
    model.network = build_network("fanet", 1, 3, width=2).eval()
    model.save(tmp_path / "three.safetensors")
    with pytest.raises(InputError, match="number of classes is 3; expected 2"):
        student = FANET | {"start_from": str(tmp_path / "three.safetensors")}
        run_stages(make_recipe(0, student=student), folder)


def test_start_from_is_relative_to_the_recipe_or_shipped(tiny_content, tmp_path, monkeypatch):
    def loaded(start_from):
        file = tmp_path / "recipe.yaml"
        student = tiny_content["student"] | {"start_from": start_from}
        file.write_text(yaml.safe_dump(tiny_content | {"student": student}))
        return Recipe.load(file).student.start_from

    assert loaded("models/a.safetensors") == str(tmp_path / "models" / "a.safetensors")
    assert loaded(SHIPPED) == SHIPPED
    assert loaded(None) is None
    monkeypatch.setenv("MODELS", str(tmp_path / "mine"))
    assert loaded("${MODELS}/a.safetensors") == str(tmp_path / "mine" / "a.safetensors")
    with pytest.raises(InputError, match=r"student.start_from: .*names an environment variable"):
        loaded("${NOT_SET_AT_ALL}/a.safetensors")


def test_a_portable_recipe_names_models_without_their_folders(make_recipe):
    mine = FANET | {"start_from": "/home/me/a.safetensors"}
    portable = make_recipe(student=mine, teacher=mine | {"train": False}).portable()
    assert portable.student.start_from == portable.teacher.start_from == "a.safetensors"
    assert not portable.teacher.train
    assert make_recipe().portable().student.start_from is None


def test_a_network_without_a_name_is_that_of_the_model(make_recipe, model_file, tmp_path):
    recipe = make_recipe(student={"start_from": str(model_file)}, teacher={"start_from": SHIPPED})
    card = load_model(SHIPPED).card
    assert (recipe.student.name, recipe.student.options) == ("fanet", {"width": 2})
    assert (recipe.teacher.name, recipe.teacher.options) == (card.architecture, card.options)
    recipe.save(tmp_path / "recipe.yaml")
    model_file.unlink()
    assert Recipe.load(tmp_path / "recipe.yaml") == recipe


def test_a_relative_model_gives_its_network_to_a_recipe(tiny_content, model_file, tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(tiny_content | {"student": {"start_from": "tiny.safetensors"}}))
    student = Recipe.load(file).student
    assert (student.name, student.start_from) == ("fanet", str(model_file))


def test_a_frozen_teacher_is_not_changed_by_a_step(make_recipe, model_file, folder):
    events = []
    teacher = {"start_from": str(model_file), "train": False}
    trained = run_stages(make_recipe(2, teacher=teacher), folder, events.append)
    weights = load_model(model_file).network.state_dict()
    for name, tensor in trained.teacher.state_dict().items():
        assert torch.equal(tensor, weights[name]), name
    assert not torch.equal(trained.student.state_dict()["head.weight"], weights["head.weight"])
    notes = [event.sentence for event in events if isinstance(event, Noted)]
    assert "The teacher is tiny as it is; this run does not train it" in notes
    steps = {event.stage for event in events if isinstance(event, StepDone)}
    assert "teacher" not in steps and "student" in steps


def test_a_fine_tuned_teacher_goes_on_from_its_model(make_recipe, model_file, folder):
    trained = run_stages(make_recipe(2, teacher={"start_from": str(model_file)}), folder)
    weights = load_model(model_file).network.state_dict()
    moved = [
        float((tensor - weights[name]).abs().max())
        for name, tensor in trained.teacher.named_parameters()
    ]
    assert 0 < max(moved) < 0.02


def test_a_frozen_teacher_resumes_without_its_file(make_recipe, model_file, folder):
    recipe = make_recipe(2, teacher={"start_from": str(model_file), "train": False})
    former = run_stages(recipe, folder).distilled.state_dict()
    model_file.unlink()
    for stage in ("teacher", "distil"):
        shutil.rmtree(folder.stage(stage))
    again = run_stages(recipe, folder).distilled.state_dict()
    assert all(torch.equal(tensor, former[name]) for name, tensor in again.items())


def test_a_run_stands_for_its_teacher_and_its_better_student(finished_run, tmp_path):
    run = RunDirectory(tmp_path / "run")
    shutil.copytree(finished_run.path, run.path)
    assert find_model(run.path, "teacher") == run.role_model("teacher")
    for baseline, better in ((0.9, run.role_model("baseline")), (0.1, run.model)):
        report = {
            role: {"scores": {"B": {"mean": {"dice": dice}, "interval": {"dice": [0, 1]}}}}
            for role, dice in (("baseline", baseline), ("distilled", 0.5))
        }
        (run.report / "report.json").write_text(json.dumps(report))
        assert find_model(run.path, "student") == better


def test_report_and_cards_name_the_models_of_the_start(make_recipe, finished_run, tmp_path):
    recipe = make_recipe(
        1,
        name="second",
        teacher={"start_from": str(finished_run.path), "train": False},
        student={"start_from": str(finished_run.path)},
        source={"name": "C", "phantoms": {"scanner": "C", "images": 2, "size": 64}},
        tests=[{"name": "A", "phantoms": {"scanner": "A", "images": 2, "size": 64}}],
    )
    run = RunDirectory(tmp_path / "second")
    distil(recipe, run.path, device="cpu")
    teacher, student = read_card(run.role_model("teacher")), read_card(run.model)
    assert teacher.method == "teacher, tiny-teacher as it is"
    assert [source.name for source in teacher.sources] == ["A"]
    assert {source.name for source in student.sources} == {"A", "C"}
    assert "begun from tiny" in student.method
    report = (run.report / "report.md").read_text()
    assert "The teacher is tiny-teacher as it is; this run does not train it" in report
    assert "tiny-teacher was trained on images of A, so that A is not unseen" in report
