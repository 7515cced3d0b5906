"""A student that starts from a model begins with its weights."""

import shutil

import pytest
import torch
import yaml

from src_training.comparison.plan import plan_runs
from src_training.config.recipe import Recipe
from src_training.errors import InputError
from src_training.inference.model_file import load_model, shipped_models
from src_training.networks import build_network
from src_training.runs.directory import RunDirectory
from tests.run_stages import run_stages

SHIPPED = next(iter(shipped_models()))


@pytest.fixture
def folder(tmp_path):
    return RunDirectory(tmp_path / "run")


def test_the_student_begins_with_the_weights_of_the_model(make_recipe, model_file, folder):
    trained = run_stages(make_recipe(0, start_from=str(model_file)), folder)
    weights = load_model(model_file).network.state_dict()
    for network in (trained.baseline, trained.distilled):
        for name, tensor in network.state_dict().items():
            assert torch.equal(tensor, weights[name])
    assert not torch.equal(trained.teacher.state_dict()["head.weight"], weights["head.weight"])


def test_a_run_goes_on_when_the_model_it_started_from_is_gone(make_recipe, model_file, folder):
    recipe = make_recipe(0, start_from=str(model_file))
    former = run_stages(recipe, folder).baseline.state_dict()
    model_file.unlink()
    for stage in ("student", "baseline", "distil"):
        shutil.rmtree(folder.stage(stage))
    again = run_stages(recipe, folder).baseline.state_dict()
    assert all(torch.equal(tensor, former[name]) for name, tensor in again.items())


def test_rows_of_a_comparison_start_from_a_model_that_is_gone(make_recipe, model_file, tmp_path):
    recipe = make_recipe(1, start_from=str(model_file))
    plan = plan_runs([recipe], ["logits", "fsp"], [], tmp_path / "out")
    for run in plan:
        run.run("cpu", lambda _event: None, lambda: False)
        model_file.unlink(missing_ok=True)
    assert all(run.done and run.directory.start.exists() for run in plan)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"student": {"name": "erfnet"}}, "network is fanet; expected erfnet"),
        (
            {"student": {"name": "fanet", "options": {"width": 4}}},
            "options is {'width': 2}; expected {'width': 4}",
        ),
        (
            {"preprocessing": {"kind": "intensity", "channels": 3}},
            "number of channels is 1; expected 3",
        ),
        ({"start_from": "none"}, "none: there is no such model"),
    ],
)
def test_a_model_of_another_kind_is_one_sentence(make_recipe, model_file, folder, fields, words):
    recipe = make_recipe(0, **{"start_from": str(model_file)} | fields)
    with pytest.raises(InputError) as caught:
        run_stages(recipe, folder)
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert not folder.path.exists()


def test_a_model_of_other_classes_is_one_sentence(make_recipe, tiny_model, folder, tmp_path):
    model = tiny_model()
    model.card = model.card.model_copy(update={"classes": ["background", "a", "b"]})
    model.network = build_network("fanet", 1, 3, width=2).eval()
    model.save(tmp_path / "three.safetensors")
    with pytest.raises(InputError, match="number of classes is 3; expected 2"):
        run_stages(make_recipe(0, start_from=str(tmp_path / "three.safetensors")), folder)


def test_start_from_is_relative_to_the_recipe_or_shipped(tiny_content, tmp_path, monkeypatch):
    def loaded(start_from):
        file = tmp_path / "recipe.yaml"
        file.write_text(yaml.safe_dump(tiny_content | {"start_from": start_from}))
        return Recipe.load(file).start_from

    assert loaded("models/a.safetensors") == str(tmp_path / "models" / "a.safetensors")
    assert loaded(SHIPPED) == SHIPPED
    assert loaded(None) is None
    monkeypatch.setenv("MODELS", str(tmp_path / "mine"))
    assert loaded("${MODELS}/a.safetensors") == str(tmp_path / "mine" / "a.safetensors")
    with pytest.raises(InputError, match=r"start_from: .*names an environment variable"):
        loaded("${NOT_SET_AT_ALL}/a.safetensors")


def test_a_portable_recipe_names_the_model_without_its_folder(make_recipe):
    assert make_recipe(start_from="/home/me/a.safetensors").portable().start_from == "a.safetensors"
    assert make_recipe().portable().start_from is None
