"""Several processes make the run that one makes."""

import os
import subprocess
import sys

import pytest
import torch

from src_training.errors import InputError
from src_training.events import RunStarted, StepDone, read_events
from src_training.training import ranks
from src_training.training.folder import STAGES, RunFolder
from src_training.training.pipeline import Pipeline
from src_training.training.ranks import make_fabric, processes_of
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


def test_torchrun_says_how_many_processes_there_are(monkeypatch):
    assert processes_of(3) == 3
    for name, value in {"TORCHELASTIC_RUN_ID": "a", "WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    assert processes_of(1) == processes_of(4) == 4
    with pytest.raises(InputError, match="--devices is 2 and torchrun started 4 processes"):
        processes_of(2)


def test_the_processes_of_torchrun_are_spread_over_its_machines(monkeypatch):
    made = {}
    monkeypatch.setattr(ranks, "Fabric", lambda **how: made.update(how))
    torchrun = {"TORCHELASTIC_RUN_ID": "a", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "1"}
    for name, value in torchrun.items():
        monkeypatch.setenv(name, value)
    make_fabric("cpu", processes_of(1))
    assert (made["devices"], made["num_nodes"], made["strategy"]) == (1, 4, "ddp")


OWN = [sys.executable, "-m"]
TORCHRUN = [
    sys.executable,
    "-m",
    "torch.distributed.run",
    "--standalone",
    "--nproc-per-node=2",
    "-m",
]
LAUNCHES = {
    "one": (OWN, []),
    "two, by --devices": (OWN, ["--devices", "2"]),
    "two, by torchrun": (TORCHRUN, []),
}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two processors")
def test_two_processes_learn_what_one_does(make_recipe, tmp_path):
    plan = {"batch": 3, "validate_every": 2}
    stages = {name: {"steps": 2 * (name in EXACT), **plan} for name in STAGES if name != "alone"}
    stages["distil"]["steps"] = 2
    recipe = tmp_path / "recipe.yaml"
    make_recipe(stages=stages).save(recipe)
    losses = {launch: losses_of(launch, recipe, tmp_path / launch) for launch in LAUNCHES}
    expected = losses.pop("one")
    for launch, found in losses.items():
        assert found.keys() == expected.keys(), launch
        for step, values in found.items():
            assert values.keys() == expected[step].keys(), (launch, step)
            assert all(torch.isfinite(torch.tensor(list(values.values())))), (launch, step)
            if step[0] in EXACT:
                assert values == pytest.approx(expected[step], rel=1e-4, abs=1e-7), (launch, step)


def losses_of(launch, recipe, run):
    """Losses of a run by stage and step, after a look at all else that it should be."""
    start, options = LAUNCHES[launch]
    done = subprocess.run(
        [*start, "src_training", "distil", recipe, "--out", run, "--device", "cpu", *options],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("The distilled student is") == 1
    events = read_events(RunFolder(run).events)
    processes = 1 if launch == "one" else 2
    assert [e.processes for e in events if isinstance(e, RunStarted)] == [processes]
    assert run_state(run).state == "finished" and run_state(run).finished_stages == STAGES
    steps = [e for e in events if isinstance(e, StepDone)]
    return {(e.stage, e.step): {"total": e.total, **e.losses} for e in steps}
