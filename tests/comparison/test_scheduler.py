"""Parallel runs of a comparison in separate processes, which stop and resume together."""

import csv
import os
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest

from src_training.comparison import scheduler
from src_training.comparison.plan import PlannedRun, plan_runs
from src_training.comparison.scores import summarise
from src_training.config.recipe import Recipe
from src_training.errors import InputError
from src_training.reports.comparison import as_csv
from src_training.runs.directory import RunDirectory
from src_training.runs.events import RunFinished, RunStarted, StepDone, read_events
from src_training.runs.state import run_state
from src_training.training.distributed import launch
from src_training.training.distributed.launch import device_names

needs_two = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two processors")
needs_signals = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
slow = pytest.mark.slow
METHODS = ["logits", "attention", "fsp"]


@pytest.fixture
def recipe(make_recipe) -> Recipe:
    return make_recipe(steps=2)


@pytest.fixture
def arguments(recipe, tmp_path):
    """Of a comparison of the tiny recipe, two runs at once."""
    recipe.save(tmp_path / "tiny.yaml")
    return [
        "compare",
        tmp_path / "tiny.yaml",
        "--out",
        tmp_path / "out",
        "--device",
        "cpu",
        "--devices",
        2,
    ]


@pytest.fixture
def process(arguments):
    """Start the command with two seeds in a process, which is killed at the end if running."""
    begun = []

    def start():
        words = [*arguments, "--method", "logits", "--seed", 0, "--seed", 1]
        begun.append(
            subprocess.Popen(
                [sys.executable, "-m", "src_training", *map(str, words)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return begun[-1]

    yield start
    for each in begun:
        with each:
            each.kill()


def seeds_of(out: Path) -> list[Path]:
    return [out / f"seed-{seed}" / "logits" for seed in (0, 1)]


def wait_until(condition) -> None:
    end = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def steps_of(folder: Path) -> list[tuple[str, int]]:
    events = read_events(folder / "events.jsonl")
    return [(event.stage, event.step) for event in events if isinstance(event, StepDone)]


def times_of(folder: Path) -> tuple[datetime, datetime]:
    events = read_events(folder / "events.jsonl")
    (began,) = [event.time for event in events if isinstance(event, RunStarted)]
    (ended,) = [event.time for event in events if isinstance(event, RunFinished)]
    return datetime.fromisoformat(began), datetime.fromisoformat(ended)


def but_for_times(text: str) -> list[dict[str, str]]:
    """The rows without times, and without the control that depends on them."""
    return [
        {
            column: value
            for column, value in line.items()
            if "seconds" not in column and not column.startswith("equal_time")
        }
        for line in csv.DictReader(text.splitlines())
    ]


STAND_IN = """
import pathlib, shutil, sys
if "--out" in sys.argv:
    shutil.copy("asked.yaml", "recipe.yaml")
sys.exit("emkd" in sys.argv[2] and "no teacher")
"""


class Recorder:
    """A display that records its calls."""

    def __init__(self, first):
        self.begun, self.ended, self.most, self.first = [], {}, 0, first

    def begin(self, name):
        _, seed = name.split(", ")
        waited = f"{self.first}, {seed}"
        assert self.first is None or name == waited or waited in self.ended
        self.begun.append(name)
        self.most = max(self.most, len(self.begun) - len(self.ended))

    def end(self, name, why):
        self.ended[name] = why


@pytest.fixture
def devices(monkeypatch):
    """The devices that runs used; a fake program replaces their processes."""
    used = []

    def stand_in(arguments):
        used.append(arguments[-1])
        return [sys.executable, "-c", STAND_IN, *arguments]

    monkeypatch.setattr("src_training.runs.process.command", stand_in)
    monkeypatch.setattr(PlannedRun, "copy_stages", lambda *_: None)
    return used


def test_methods_beside_a_finished_run_do_not_wait(make_recipe, devices, tmp_path):
    recipe = make_recipe()
    finished = RunDirectory(tmp_path / "seed-0" / "gkd")
    finished.path.mkdir(parents=True)
    recipe.save(finished.recipe)
    finished.model.touch()
    plan = plan_runs([recipe], ["logits", "fsp"], [0], tmp_path)
    assert [run.shares_with for run in plan] == [finished, finished]
    shown = Recorder(first=None)
    assert scheduler.run_concurrently(plan, ["cuda:0", "cuda:1"], shown, lambda: False) == {}
    assert set(devices) == {"cuda:0", "cuda:1"} and shown.most == 2


def test_every_device_has_a_run_as_soon_as_one_is_ready(make_recipe, devices, tmp_path):
    plan = plan_runs([make_recipe()], ["logits", "fsp", "emkd"], [0, 1], tmp_path)
    shown = Recorder(first="logits")
    failed = scheduler.run_concurrently(plan, ["cuda:0", "cuda:1"], shown, lambda: False)
    assert failed == {f"emkd, seed {seed}": "no teacher" for seed in (0, 1)}
    assert shown.begun[:2] == ["logits, seed 0", "logits, seed 1"] and shown.most == 2
    assert shown.ended.keys() == {run.name for run in plan}
    assert devices[:2] == ["cuda:0", "cuda:1"] and set(devices) == set(devices[:2])


def test_a_run_that_others_wait_for_comes_first(make_recipe, devices, tmp_path):
    recipe = make_recipe()
    finished = RunDirectory(tmp_path / "seed-0" / "gkd")
    finished.path.mkdir(parents=True)
    recipe.save(finished.recipe)
    finished.model.touch()
    plan = plan_runs([recipe], ["logits", "fsp"], [0, 1], tmp_path)
    shown = Recorder(first="logits")
    assert scheduler.run_concurrently(plan, ["cuda:0"], shown, lambda: False) == {}
    assert shown.begun[0] == "logits, seed 1"
    assert shown.begun[1:3] == ["logits, seed 0", "fsp, seed 0"]


def test_rows_of_equal_recipes_run_once(make_recipe, devices, tmp_path):
    rows = {"one": {}, "two": {"distillation.gkd.views": 5}, "again": {}}
    plan = plan_runs([make_recipe()], [], [0], tmp_path, rows)
    shown = Recorder(first="one")
    assert scheduler.run_concurrently(plan, ["cuda:0", "cuda:1"], shown, lambda: False) == {}
    assert shown.begun == ["one, seed 0", "two, seed 0"]


@slow
@needs_two
@pytest.mark.timeout(900)
def test_concurrent_runs_equal_consecutive_ones(recipe, arguments, msankd, tmp_path):
    chosen = [word for method in METHODS for word in ("--method", method)]
    said = msankd(*arguments, *chosen)
    assert said.code == 0, said.err
    assert said.out.count("finished in") == 3
    (_, shared), second, third = (times_of(tmp_path / "out" / "seed-0" / m) for m in METHODS)
    assert shared < min(second[0], third[0])
    assert max(second[0], third[0]) < min(second[1], third[1])
    in_turn = plan_runs([recipe], METHODS, [], tmp_path / "in turn")
    for run in in_turn:
        run.run("cpu", lambda _event: None, lambda: False)
    found = (tmp_path / "out" / "comparison.csv").read_text()
    assert but_for_times(found) == but_for_times(as_csv(summarise(in_turn)))


@needs_two
def test_runs_that_wait_for_a_failed_one_do_not_begin(make_recipe, arguments, msankd, tmp_path):
    distillation = [{"method": "gkd", "cross": 1e39}]
    make_recipe(steps=1, distillation=distillation).save(tmp_path / "tiny.yaml")
    said = msankd(*arguments, "--method", "gkd", "--method", "fsp")
    assert said.code == 1
    failed, waits = said.err.splitlines()[-2:]
    assert failed.startswith("gkd, seed 0: ") and "the loss is inf at step 1" in failed
    assert waits.startswith("fsp, seed 0: not begun: it takes over what gkd learns first")
    assert not (tmp_path / "out" / "seed-0" / "fsp").exists()


@needs_two
def test_data_are_read_before_any_run_begins(make_recipe, arguments, msankd, tmp_path):
    tests = [{"name": "B", "folder": str(tmp_path / "nowhere")}]
    make_recipe(steps=1, tests=tests).save(tmp_path / "tiny.yaml")
    said = msankd(*arguments, "--method", "logits", "--method", "fsp")
    assert said.code == 2 and "nowhere" in said.err and not (tmp_path / "out").exists()


def test_a_folder_of_another_comparison_begins_nothing(make_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(scheduler, "start_distil", pytest.fail)
    plan = plan_runs([make_recipe()], ["logits"], [0, 1], tmp_path)
    make_recipe(patch=64).save(plan[1].directory.recipe)
    with pytest.raises(InputError, match="begun with another recipe"):
        scheduler.run_concurrently(plan, ["cpu", "cpu"], None, lambda: False)


def test_each_run_has_a_gpu_and_no_more_than_there_are(monkeypatch):
    assert device_names("cuda:1", 1) == ["cuda:1"]
    monkeypatch.setattr(launch.torch.cuda, "device_count", lambda: 3)
    assert device_names("cuda", 3) == ["cuda:0", "cuda:1", "cuda:2"]
    with pytest.raises(InputError, match="devices is 4; expected 1 to 3 of cuda"):
        device_names("auto", 4)
    with pytest.raises(InputError, match="device is cuda:1 and devices is 2; expected cuda"):
        device_names("cuda:1", 2)
    with pytest.raises(InputError, match="devices is 0; expected 1 to"):
        device_names("cpu", 0)


@slow
@needs_two
@needs_signals
@pytest.mark.timeout(900)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_runs_end_with_the_command_keep_their_steps_and_go_on(process, recipe, tmp_path, number):
    folders = seeds_of(tmp_path / "out")
    command = process()
    wait_until(lambda: command.poll() is not None or all(map(steps_of, folders)))
    command.send_signal(number)
    _, said = command.communicate()
    if number == signal.SIGKILL:
        wait_until(lambda: all(run_state(each).state != "running" for each in folders))
    else:
        assert (command.returncode, said) == (130, "Stopped; the same command goes on.\n")
    for folder in folders:
        state = run_state(folder)
        assert (state.state, state.stop_reason) == ("stopped", "stopped on request")
    again = process()
    _, said = again.communicate()
    assert again.returncode == 0, said
    for folder in folders:
        steps = steps_of(folder)
        assert len(steps) == len(set(steps))
    assert (tmp_path / "out" / "comparison.md").exists()


@slow
@needs_two
@pytest.mark.timeout(900)
def test_other_runs_finish_beside_a_failed_one(process, recipe, tmp_path):
    broken, whole = plan_runs([recipe], ["logits"], [0, 1], tmp_path / "out")
    broken.recipe.save(broken.directory.recipe)
    checkpoint = broken.directory.stage("teacher") / "last.safetensors"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"no checkpoint")
    first = process()
    _, said = first.communicate()
    assert first.returncode == 1
    assert said.startswith(f"logits, seed 0: {checkpoint}: the checkpoint cannot be read")
    assert said.count("\n") == 1
    assert whole.done and not broken.done
    checkpoint.unlink()
    second = process()
    _, said = second.communicate()
    assert second.returncode == 0, said
    assert broken.done
