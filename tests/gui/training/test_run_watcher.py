"""Runs in their own processes: start, watch, stop, kill, resume and leave them running."""

import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime

import psutil
import pytest

from napari_msankd.training.monitor import run_process
from napari_msankd.training.monitor.run_watcher import RunWatcher
from src_training.config.stages import REQUIRED_STAGES
from src_training.errors import InputError
from src_training.runs.directory import RunDirectory
from src_training.runs.events import (
    Previewed,
    RunFinished,
    RunStarted,
    RunStopped,
    StepDone,
    read_events,
)
from tests.gui.conftest import PATIENCE

from .event_log import append_events, run_events, stage_events, start_events, write_run

ENDLESS = 10**6


@pytest.fixture
def watch(qtbot):
    """Watch a directory; at the end, stop the watcher and any process of the run."""
    jobs = []

    def attach(folder):
        jobs.append(job := RunWatcher(folder))
        return job

    def start(recipe, folder):
        jobs.append(job := RunWatcher.start(recipe, folder, "cpu"))
        return job

    attach.start = start
    yield attach
    for job in jobs:
        job.stop(wait=True)
        job.close()
    qtbot.wait(50)


@pytest.fixture
def until(qtbot):
    def wait(condition):
        qtbot.waitUntil(condition, timeout=PATIENCE)

    return wait


def at(job, name):
    """Whether a job has seen a step of a stage."""
    return lambda: job.history.stages[name].step > 0


def ended(job):
    return lambda: job.state is not None


def process_of(job):
    return psutil.Process(job.history.process)


def is_gone(process):
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.mark.slow
def test_two_windows_follow_a_run_to_its_end(watch, make_recipe, tmp_path, until):
    one = watch.start(make_recipe(steps=2), tmp_path / "läuft gut")
    other = watch(one.folder.path)
    until(ended(one))
    until(ended(other))
    for job in (one, other):
        assert job.state.state == "finished", job.state.stop_reason
        assert {stage.state for stage in job.history.stages.values()} == {"done"}
        assert job.history.device == "cpu"
    assert one.folder.model.exists()


def test_a_run_is_stopped_at_once_resumed_and_killed(watch, make_recipe, tmp_path, until):
    job = watch.start(make_recipe(steps=ENDLESS), tmp_path / "run")
    other = watch(job.folder.path)
    until(at(job, "teacher"))
    until(at(other, "teacher"))
    process = process_of(job)
    # Any window can stop it.
    other.stop()
    asked = datetime.now(UTC)
    assert other.stopping
    until(lambda: is_gone(process))
    steps = [each for each in read_events(job.folder.events) if isinstance(each, StepDone)]
    assert sum(datetime.fromisoformat(each.time) > asked for each in steps) <= 2
    for watcher in (job, other):
        until(lambda watcher=watcher: ended(watcher)() and watcher.state.state == "stopped")
        assert watcher.state.stop_reason == "stopped on request"
    assert (job.folder.stage("teacher") / "last.safetensors").exists()

    steps = job.history.stages["teacher"].step
    job.resume("cpu")
    assert job.running
    with pytest.raises(InputError, match="is going on"):
        job.resume("cpu")
    until(lambda: job.history.state == "running" and process_of(job).pid != process.pid)
    until(lambda: job.history.stages["teacher"].step > steps)
    assert other.running

    process_of(job).kill()
    until(ended(job))
    until(ended(other))
    assert job.state.state == "died"
    # Not the progress that it printed last.
    assert "killed" in job.state.stop_reason
    assert "validation" not in job.folder.output.read_text()


def test_a_run_is_stopped_before_its_first_step(watch, make_recipe, tmp_path, until):
    job = watch.start(make_recipe(steps=ENDLESS), tmp_path / "run")
    assert job.running
    job.stop()
    until(ended(job))
    assert job.state.state == "stopped"
    assert job.state.stop_reason == "stopped on request"


def test_a_run_that_cannot_begin_says_why(watch, make_recipe, tmp_path, until):
    gone = {"name": "A", "folder": str(tmp_path / "gone")}
    before = psutil.Process().children()
    job = watch.start(make_recipe(source=gone), tmp_path / "run")
    until(ended(job))
    assert job.state.state == "stopped"
    assert "gone" in job.state.stop_reason
    assert not job.folder.recipe.exists()
    # Not even a zombie of the run is left.
    assert set(psutil.Process().children()) <= set(before)


@pytest.mark.parametrize("resumed", [False, True])
def test_a_folder_that_is_deleted_ends_its_run(resumed, watch, make_recipe, tmp_path, until):
    job = watch.start(make_recipe(steps=ENDLESS), tmp_path / "run")
    until(at(job, "teacher"))
    if resumed:
        job.stop()
        until(ended(job))
        job.resume("cpu")
    while job.folder.path.exists():  # its process may write into it meanwhile
        shutil.rmtree(job.folder.path, ignore_errors=True)
    until(ended(job))
    assert job.state.state == "unreadable"
    assert job.state.stop_reason == f"{tmp_path / 'run'}: the folder of this run is gone"


def test_a_process_whose_threads_still_end_leaves_no_zombie(monkeypatch, tmp_path, until):
    # Its first thread is a zombie for some milliseconds before its exit code can be taken.
    ends_slowly = (
        "import os, threading, time; data = bytearray(400_000_000)\n"
        "for _ in range(200): threading.Thread(target=time.sleep, args=(9,), daemon=True).start()\n"
        "os._exit(0)"
    )
    command = [sys.executable, "-c", ends_slowly]
    monkeypatch.setattr(run_process, "start_distil", lambda *_, **__: subprocess.Popen(command))
    process = run_process.start_process(RunDirectory(tmp_path / "run"), [])
    until(lambda: not run_process.is_alive(process))
    assert process not in psutil.Process().children()


@pytest.mark.slow
def test_the_run_outlives_the_viewer(watch, make_recipe, tmp_path, until):
    recipe, folder = tmp_path / "recipe.yaml", tmp_path / "run"
    make_recipe(steps=ENDLESS).save(recipe)
    viewer = (
        "import sys; from pathlib import Path\n"
        "from qtpy.QtCore import QCoreApplication\n"
        "from napari_msankd.training.monitor.run_watcher import RunWatcher\n"
        "from src_training.config.recipe import Recipe\n"
        "app = QCoreApplication([])\n"
        "job = RunWatcher.start(Recipe.load(sys.argv[1]), Path(sys.argv[2]), 'cpu')\n"
    )
    subprocess.run([sys.executable, "-c", viewer, recipe, folder], check=True, timeout=120)
    job = watch(folder)
    until(at(job, "teacher"))
    assert job.running
    assert process_of(job).parent().pid != psutil.Process().pid
    job.stop()
    until(ended(job))


def test_a_directory_with_a_run_is_not_begun_again(make_recipe, tmp_path):
    write_run(tmp_path / "run", run_events())
    with pytest.raises(InputError, match="holds a run already"):
        RunWatcher.start(make_recipe(), tmp_path / "run")


def test_a_finished_run_is_read_whole(watch, tmp_path, until):
    received = []
    job = watch(write_run(tmp_path / "run", run_events()))
    job.advanced.connect(received.append)
    until(ended(job))
    assert job.state.state == "finished"
    assert received == [job.history]
    assert set(job.history.losses) == set(REQUIRED_STAGES)


def test_a_run_that_another_window_resumes_is_followed_again(watch, tmp_path, until):
    run = write_run(tmp_path / "run", [*start_events(), RunStopped(reason="stopped on request")])
    job, states = watch(run), []
    job.ended.connect(states.append)
    until(ended(job))
    append_events(
        run, [RunStarted(device="cpu", precision="32-true", stages=list(REQUIRED_STAGES))]
    )
    until(lambda: job.running)
    append_events(
        run, [*stage_events("teacher"), RunFinished(model="model.safetensors", seconds=1.0)]
    )
    until(ended(job))
    assert [state.state for state in states] == ["stopped", "finished"]


def test_a_run_is_awaited_where_there_is_none_yet(watch, tmp_path, until, qtbot):
    job = watch(tmp_path / "coming")
    qtbot.wait(600)
    assert job.running
    assert job.history.state == "waiting"
    write_run(tmp_path / "coming", run_events())
    until(lambda: job.history.state == "finished")
    until(ended(job))


def test_only_the_latest_preview_is_emitted(watch, tmp_path, until):
    previews = [Previewed(stage="teacher", step=n, file="preview/labels.npy") for n in (1, 2)]
    run = write_run(tmp_path / "run", [*start_events(), *previews])
    job, received = watch(run), []
    job.previewed.connect(received.append)
    until(ended(job))
    assert received == [RunDirectory(run).preview_labels]
    append_events(run, [Previewed(stage="teacher", step=3, file="preview/labels.npy")])
    until(lambda: len(received) == 2)


def test_many_events_are_read_a_little_at_a_time(watch, tmp_path, until):
    run = write_run(tmp_path / "run", [*start_events(), *stage_events("teacher", steps=5000)])
    job, longest = watch(run), 0.0
    job._timer.stop()
    while not at(job, "teacher")() or job.history.stages["teacher"].step < 5000:
        started = time.thread_time()
        job.tick()
        longest = max(longest, time.thread_time() - started)
    # The budget is 5 ms plus one slice of events; the bound also holds on slow machines.
    assert longest < 0.05


def test_another_process_with_the_same_id_is_not_the_run(watch, tmp_path, until):
    number = psutil.Process().pid
    run = write_run(tmp_path / "run", [start_events()[0].model_copy(update={"process": number})])
    job = watch(run)
    until(ended(job))
    assert job.state.state == "died"
    job.stop()
    assert psutil.Process().is_running()
