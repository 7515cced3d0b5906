"""A run in several processes gives the same results as in a single one."""

import os
import subprocess
import sys

import pytest

from src_training.config.stages import STAGES, stages_of
from src_training.distillation import METHODS
from src_training.errors import InputError
from src_training.runs.data import load_run_data
from src_training.runs.directory import RunDirectory
from src_training.runs.events import RunStarted, StepDone, read_events
from src_training.runs.pipeline import Pipeline
from src_training.runs.state import run_state
from src_training.training.distributed import launch
from src_training.training.distributed.launch import make_fabric, process_count

# In double precision the order of sums hardly matters: results agree to 1e-7. In single
# precision Adam turns gradients that are only rounding errors into full steps, which differ by
# 1e-3 after two steps.
CLOSE = 1e-6


@pytest.mark.parametrize(
    ("device", "devices", "words"),
    [
        ("cpu", 0, "devices is 0; expected 1 to"),
        ("cpu", 10_000, "devices is 10000; expected 1 to"),
    ],
)
def test_an_impossible_number_of_devices_is_refused(device, devices, words):
    with pytest.raises(InputError, match=words):
        make_fabric(device, devices)


def test_lightning_prints_nothing():
    program = (
        "from src_training.training.distributed import launch\n"
        "launch.training_precision = lambda device: 'bf16-mixed'\n"
        "launch.make_fabric('cpu', 1)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("", "")


def test_each_device_needs_a_patch(make_recipe, tmp_path):
    stages = {name: {"steps": 1, "batch": 4} for name in make_recipe().stages}
    recipe = make_recipe(stages=stages | {"tan": {"steps": 1, "batch": 1}})
    with pytest.raises(InputError, match=r"stages.tan.batch is 1; expected at least 2"):
        Pipeline(recipe, load_run_data(recipe), RunDirectory(tmp_path), devices=2)


def test_each_device_needs_a_labelled_patch(make_recipe, tmp_path):
    stages = {name: {"steps": 1, "batch": 2} for name in make_recipe().stages}
    unlabelled = [{"name": "C", "phantoms": {"scanner": "C", "images": 1, "size": 64}}]
    recipe = make_recipe(stages=stages, unlabelled=unlabelled)
    with pytest.raises(InputError, match=r"stages.distil.batch is 2; expected at least 3, one lab"):
        Pipeline(recipe, load_run_data(recipe), RunDirectory(tmp_path), devices=2)


def test_half_of_a_batch_needs_a_patch_without_a_mask(make_recipe, tmp_path):
    stages = {name: {"steps": 1, "batch": 2} for name in make_recipe().stages}
    stages["distil"]["batch"] = 1
    unlabelled = [{"name": "C", "phantoms": {"scanner": "C", "images": 1, "size": 64}}]
    said = r"distil.batch is 1; expected at least 2, .* and one without a mask"
    with pytest.raises(InputError, match=said):
        recipe = make_recipe(stages=stages, unlabelled=unlabelled)
        Pipeline(recipe, load_run_data(recipe), RunDirectory(tmp_path))


def test_a_process_ends_with_rank_zero():
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    gone.wait()
    code = (
        "import time; from src_training.training.distributed.launch import follow_rank_zero;"
        "follow_rank_zero(); time.sleep(600)"
    )
    env = os.environ | {"MSANKD_RANK_ZERO_PID": str(gone.pid)}
    assert subprocess.run([sys.executable, "-c", code], env=env, check=False).returncode == 1


def test_torchrun_gives_the_number_of_processes(monkeypatch):
    assert process_count(3) == 3
    for name, value in {"TORCHELASTIC_RUN_ID": "a", "WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    assert process_count(1) == process_count(4) == 4
    with pytest.raises(InputError, match="--devices is 2 and torchrun started 4 processes"):
        process_count(2)


def test_processes_of_torchrun_are_divided_by_machines(monkeypatch):
    made = {}
    monkeypatch.setattr(launch, "Fabric", lambda **how: made.update(how))
    torchrun = {"TORCHELASTIC_RUN_ID": "a", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "1"}
    for name, value in torchrun.items():
        monkeypatch.setenv(name, value)
    make_fabric("cpu", process_count(1))
    assert (made["devices"], made["num_nodes"], made["strategy"]) == (1, 4, "ddp")


PLAIN = [sys.executable, "-m"]
TORCHRUN = [*PLAIN, "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
LAUNCHES = {
    "two, by --devices": (PLAIN, ["--devices", "2"]),
    "two, by torchrun": (TORCHRUN, []),
}
TWO = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two processors")


@TWO
def test_two_processes_train_as_one(make_recipe, tmp_path):
    assert_same("gkd", "two, by --devices", make_recipe, tmp_path)


@TWO
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("method", METHODS)
def test_torchrun_and_every_method_train_as_one_process(method, make_recipe, tmp_path):
    assert_same(method, "two, by torchrun", make_recipe, tmp_path)


def assert_same(method, launch, make_recipe, folder):
    """Every loss of two steps of every stage, three patches shared by two processes."""
    options = {"method": method, **({"views": 2} if method == "gkd" else {})}
    plan = {"steps": 2, "batch": 3, "validate_every": 2}
    recipe = make_recipe(
        stages={name: plan for name, spec in STAGES.items() if spec.in_recipe},
        distillation=[options],
        supervised="dice_ce",
    )
    recipe.save(folder / "recipe.yaml")
    start, options = LAUNCHES[launch]
    expected = learnt(1, PLAIN, [], folder)
    found = learnt(2, start, options, folder)
    assert found.keys() == expected.keys() and len(found) == 2 * len(stages_of(recipe))
    for step, losses in found.items():
        assert losses == pytest.approx(expected[step], rel=CLOSE, abs=1e-9), step


def learnt(processes, start, options, folder):
    """Losses by stage and step of a run in double precision."""
    out = folder / f"by {processes}"
    arguments = ["distil", folder / "recipe.yaml", "--out", out, "--device", "cpu"]
    done = subprocess.run(
        [*start, "tests.training.double_precision", *arguments, *options],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("The better student") == 1
    assert run_state(out).state == "finished"
    events = read_events(RunDirectory(out).events)
    assert [e.processes for e in events if isinstance(e, RunStarted)] == [processes]
    steps = [event for event in events if isinstance(event, StepDone)]
    return {(step.stage, step.step): {"total": step.total, **step.losses} for step in steps}
