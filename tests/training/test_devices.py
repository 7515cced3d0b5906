"""Several processes make the run that one makes."""

import os
import subprocess
import sys

import pytest
import torch

from src_training.errors import InputError
from src_training.events import RunStarted, StepDone, read_events
from src_training.training.folder import STAGES, RunFolder
from src_training.training.pipeline import Pipeline
from src_training.training.ranks import make_fabric
from src_training.training.state import run_state

# Their layers in training have no batch statistics: exact but for the order of sums.
EXACT = ("vectors", "tan", "san")


@pytest.mark.parametrize(
    ("device", "devices", "words"),
    [
        ("cpu", 0, "devices is 0; expected 1 to"),
        ("cpu", 10_000, "devices is 10000; expected 1 to"),
    ],
)
def test_more_devices_than_there_are_is_one_sentence(device, devices, words):
    with pytest.raises(InputError, match=words):
        make_fabric(device, devices)


def test_a_batch_with_less_than_one_patch_for_each_device_is_one_sentence(make_recipe, tmp_path):
    stages = {name: {"steps": 1, "batch": 4} for name in make_recipe().stages.model_dump()}
    recipe = make_recipe(stages=stages | {"tan": {"steps": 1, "batch": 1}})
    with pytest.raises(InputError, match=r"stages.tan.batch is 1; expected at least 2"):
        Pipeline(recipe, RunFolder(tmp_path), "cpu", lambda: False, devices=2)


def test_each_device_needs_a_labelled_patch(make_recipe, tmp_path):
    stages = {name: {"steps": 1, "batch": 2} for name in make_recipe().stages.model_dump()}
    unlabelled = [{"name": "C", "phantoms": {"scanner": "C", "images": 1, "size": 64}}]
    recipe = make_recipe(stages=stages, unlabelled=unlabelled)
    with pytest.raises(InputError, match=r"stages.distil.batch is 2; expected at least 3, one lab"):
        Pipeline(recipe, RunFolder(tmp_path), "cpu", lambda: False, devices=2)


def test_a_process_whose_first_is_gone_ends_too():
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    gone.wait()
    code = (
        "import time; from src_training.training.ranks import follow_first;"
        "follow_first(); time.sleep(600)"
    )
    env = os.environ | {"MSANKD_FIRST_PROCESS": str(gone.pid)}
    assert subprocess.run([sys.executable, "-c", code], env=env, check=False).returncode == 1


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two processors")
def test_two_processes_learn_what_one_does(make_recipe, tmp_path):
    plan = {"batch": 3, "validate_every": 2}
    stages = {name: {"steps": 2 * (name in EXACT), **plan} for name in STAGES if name != "alone"}
    stages["distil"]["steps"] = 2
    recipe = tmp_path / "recipe.yaml"
    make_recipe(stages=stages).save(recipe)
    losses = {}
    for devices in (1, 2):
        run = tmp_path / f"run {devices}"
        command = [sys.executable, "-m", "src_training", "distil", str(recipe), "--out", str(run)]
        done = subprocess.run(
            [*command, "--device", "cpu", "--devices", str(devices)],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("The distilled student is") == 1
        events = read_events(RunFolder(run).events)
        assert [e.processes for e in events if isinstance(e, RunStarted)] == [devices]
        losses[devices] = {
            (e.stage, e.step): {"total": e.total, **e.losses}
            for e in events
            if isinstance(e, StepDone)
        }
        assert run_state(run).state == "finished" and run_state(run).finished_stages == STAGES
    assert losses[1].keys() == losses[2].keys()
    for (stage, step), expected in losses[1].items():
        found = losses[2][stage, step]
        assert found.keys() == expected.keys()
        assert all(torch.isfinite(torch.tensor(list(found.values()))))
        if stage in EXACT:
            assert found == pytest.approx(expected, rel=1e-4, abs=1e-7), (stage, step)
