"""Runs of version 0.1 open and resume: their recipe, stages, models and events by former names."""

import json
import shutil

import pytest
import torch
import yaml
from safetensors.torch import load_file

from src_training.config.recipe import Recipe
from src_training.runs.directory import RunDirectory
from src_training.runs.history import RunHistory
from src_training.runs.load import load_networks, snapshots
from src_training.runs.run import distil
from src_training.runs.state import run_state
from src_training.training.checkpoint import snapshot_files


@pytest.fixture
def former(finished_run, tmp_path, tiny_content):
    """A finished run in the format of version 0.1."""
    path = tmp_path / "run"
    shutil.copytree(finished_run.path, path)
    (path / "stages" / "baseline").rename(path / "stages" / "alone")
    (path / "stages" / "distil" / "snapshots").rename(path / "stages" / "distil" / "kept")
    (path / "models" / "baseline.safetensors").rename(path / "models" / "alone.safetensors")
    (path / "report" / "baseline.json").rename(path / "report" / "alone.json")
    report = json.loads((path / "report" / "report.json").read_text())
    report["alone"] = report.pop("baseline")
    (path / "report" / "report.json").write_text(json.dumps(report))
    events = (path / "events.jsonl").read_text().replace('"baseline"', '"alone"')
    lines = [json.loads(line) for line in events.splitlines()]
    for line in lines:
        line.pop("classes", None)
    (path / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    content = tiny_content | {"distilling": {"methods": {"gkd": 1.0}, "views": 2, "start": "alone"}}
    del content["distillation"]
    (path / "recipe.yaml").write_text(yaml.safe_dump(content))
    return path


def test_its_recipe_is_read_with_a_sentence(former, finished_run):
    notes = []
    assert Recipe.load(former / "recipe.yaml", None, notes) == finished_run.recipe
    assert any("distilling of a former version is read as distillation" in note for note in notes)


def test_its_state_events_and_report_have_todays_names(former, finished_run):
    assert run_state(former).state == "finished"
    assert RunDirectory(former).read_report().keys() == {"teacher", "baseline", "distilled"}
    assert RunDirectory(former).role_model("baseline").name == "alone.safetensors"
    history, expected = RunHistory(), RunHistory()
    for path, each in ((former, history), (finished_run.path, expected)):
        each.read(RunDirectory(path).events)
    assert history.stages == expected.stages and history.scores == expected.scores


def test_its_networks_and_snapshots_load(former, finished_run):
    assert snapshots(former) == snapshots(finished_run.path)
    expected = load_networks(finished_run.path).baseline.state_dict()
    for name, tensor in load_networks(former).baseline.state_dict().items():
        assert torch.equal(tensor, expected[name])


def test_it_resumes_to_the_same_weights(former, finished_run):
    directory = RunDirectory(former)
    shutil.rmtree(directory.stage("distil"))
    directory.model.unlink()
    distil(finished_run.recipe, former, resume=True, device="cpu")
    best = load_file(directory.stage("distil") / "best.safetensors")
    expected = load_file(finished_run.path / "stages" / "distil" / "best.safetensors")
    assert all(torch.equal(tensor, expected[name]) for name, tensor in best.items())
    assert not (former / "stages" / "baseline").exists()
    assert list(snapshot_files(directory.stage("distil"))) == snapshots(finished_run.path)
