"""The state of a run from its directory, which one process locks at a time."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from src_training.config.recipe import Recipe
from src_training.config.stages import REQUIRED_STAGES
from src_training.errors import InputError
from src_training.runs.directory import RunDirectory
from src_training.runs.events import EventLog, Noted, RunFinished, RunStarted, RunStopped, StepDone
from src_training.runs.run import distil
from src_training.runs.state import find_runs, run_state

STARTED = RunStarted(device="cpu", precision="32-true", stages=list(REQUIRED_STAGES))


@pytest.fixture
def begun(make_recipe, tmp_path):
    """A run directory with a recipe and the events that are given."""

    def begin(*events, name="run"):
        folder = RunDirectory(tmp_path / name)
        make_recipe().save(folder.recipe)
        log = EventLog(folder.events)
        for event in (STARTED, *events):
            log.write(event)
        log.close()
        return folder

    return begin


@pytest.fixture
def held():
    """Lock a run directory in another process, which is killed at the end."""
    holders = []

    def hold(folder):
        code = (
            "import sys, time; from filelock import FileLock; lock = FileLock(sys.argv[1]);"
            "lock.acquire(); print('held', flush=True); time.sleep(600)"
        )
        command = [sys.executable, "-c", code, str(folder.path / ".lock")]
        holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        holders.append(holder)
        assert holder.stdout.readline() == "held\n"
        return holder

    yield hold
    for holder in holders:
        holder.kill()
        holder.wait()
        holder.stdout.close()


def refused(recipe, path, **options):
    with pytest.raises(InputError) as caught:
        distil(recipe, path, device="cpu", **options)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    return str(caught.value)


def test_a_run_in_another_process_is_running_until_it_is_killed(begun, held, make_recipe):
    folder = begun(StepDone(stage="teacher", step=2, total=1.0, losses={}))
    holder = held(folder)
    assert run_state(folder.path).state == "running"
    former = folder.events.read_bytes()
    for resume in (False, True):
        assert "in use by another process" in refused(make_recipe(), folder.path, resume=resume)
    assert folder.events.read_bytes() == former
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    state = run_state(folder.path)
    assert (state.state, state.step) == ("died", 2)


@pytest.mark.parametrize(
    ("event", "state", "words"),
    [
        (RunFinished(model="model.safetensors", seconds=1.0), "finished", ""),
        (RunStopped(reason="stopped on request"), "stopped", "stopped on request"),
        (None, "died", "killed, or out of memory"),
    ],
)
def test_the_stop_reason_of_a_run_tell_how_it_stands(begun, event, state, words):
    folder = begun(*([event] if event else []))
    found = run_state(folder.path)
    assert (found.state, found.stop_reason, found.name) == (state, words, "tiny")


def test_a_run_that_was_resumed_and_died_is_not_called_stopped(begun):
    assert run_state(begun(RunStopped(reason="x"), STARTED).path).state == "died"


def test_a_run_that_died_says_what_was_printed_last(begun):
    folder = begun(StepDone(stage="teacher", step=2, total=1.0, losses={}))
    folder.output.write_text("On cpu\nterminate called: CUDA error\n\n")
    state = run_state(folder.path)
    assert (state.state, state.stop_reason) == ("died", "terminate called: CUDA error")


def test_what_was_printed_before_the_last_event_is_no_last_word(begun):
    folder = begun()
    folder.output.write_text("On cpu\n")
    os.utime(folder.output, (1e9, 1e9))
    assert run_state(folder.path).stop_reason == "killed, or out of memory"


def test_a_machine_that_was_restarted_since_is_why_a_run_died(begun, monkeypatch):
    folder = begun()
    folder.output.write_text("On cpu\n")
    monkeypatch.setattr("psutil.boot_time", lambda: time.time() + 60)
    state = run_state(folder.path)
    assert (state.state, state.stop_reason) == ("died", "the machine was restarted")


def test_a_directory_with_a_recipe_alone_has_not_begun(make_recipe, tmp_path):
    folder = RunDirectory(tmp_path)
    make_recipe().save(folder.recipe)
    state = run_state(tmp_path)
    assert (state.state, state.stop_reason) == ("stopped", "not begun yet")
    folder.output.write_text("scans has no mask for a.png; expected ...\n")
    state = run_state(tmp_path)
    assert state.state == "died" and state.stop_reason.startswith("scans has no mask")


def test_a_torn_last_line_does_not_hide_how_a_run_stands(begun):
    folder = begun(StepDone(stage="teacher", step=1, total=1.0, losses={}))
    with folder.events.open("ab") as file:
        file.write(b'{"time":"2026","kind":"step_do')
    assert run_state(folder.path).step == 1


def test_looking_at_a_run_does_not_keep_others_out(begun, make_recipe):
    folder = begun()
    run_state(folder.path)
    with folder.locked():
        assert run_state(folder.path).state == "running"


def test_runs_are_found_below_a_folder_newest_first(begun, tmp_path):
    for age, name in enumerate(["newest", "older", "oldest"]):
        recipe = begun(name=name).recipe
        os.utime(recipe, (1e9 - age, 1e9 - age))
    (tmp_path / "empty").mkdir()
    assert [run.path.name for run in find_runs(tmp_path)] == ["newest", "older", "oldest"]
    assert find_runs(tmp_path / "missing") == []


def test_the_runs_of_a_comparison_are_found_too(begun, tmp_path):
    seed = tmp_path / "comparison" / "seed-1"
    seed.mkdir(parents=True)
    begun(name="gkd").path.rename(seed / "gkd")
    (run,) = find_runs(tmp_path)
    assert run.path == seed / "gkd" and run.state == "died"
    assert find_runs(tmp_path / "comparison") == find_runs(seed) == [run]


def test_a_folder_without_a_run_has_no_state(tmp_path):
    with pytest.raises(InputError, match=r"recipe\.yaml"):
        run_state(tmp_path)


def test_there_is_nothing_to_resume_in_an_empty_directory(make_recipe, tmp_path):
    assert "no run to resume" in refused(make_recipe(), tmp_path, resume=True)


def test_a_directory_that_holds_a_run_is_not_written_over(begun, make_recipe):
    assert "holds a run already" in refused(make_recipe(), begun().path)


def test_a_run_is_not_resumed_with_another_recipe(begun, make_recipe):
    folder = begun()
    former = folder.recipe.read_bytes()
    message = refused(make_recipe(seed=5), folder.path, resume=True)
    assert "begun with another recipe" in message
    assert folder.recipe.read_bytes() == former


def test_a_run_that_cannot_read_its_domain_claims_no_directory(make_recipe, tmp_path):
    recipe = make_recipe(source={"name": "A", "folder": str(tmp_path / "none")})
    with pytest.raises(InputError, match="none has no readable image"):
        distil(recipe, tmp_path / "run", device="cpu")
    assert not RunDirectory(tmp_path / "run").recipe.exists()
    assert find_runs(tmp_path) == []


def test_a_run_whose_recipe_is_broken_does_not_hide_the_others(begun):
    begun(name="whole")
    broken = begun(name="broken")
    broken.recipe.write_text("name: [")
    states = {run.path.name: run for run in find_runs(broken.path.parent)}
    assert states["whole"].state == "died"
    assert states["broken"].state == "unreadable"
    assert str(broken.recipe) in states["broken"].stop_reason


def test_a_run_that_cannot_be_looked_at_does_not_hide_the_others(begun, finished_run, monkeypatch):
    def refused(_folder):
        raise PermissionError(13, "Permission denied", ".lock")

    folder = begun(name="read-only")
    monkeypatch.setattr(RunDirectory, "in_use", property(refused))
    (run,) = find_runs(folder.path.parent)
    assert run.state == "unreadable" and "Permission denied" in run.stop_reason
    assert find_runs(finished_run.path.parent)[0].state == "finished"


def test_a_finished_run_leaves_recipe_models_and_report(finished_run):
    folder = RunDirectory(finished_run.path)
    state = run_state(folder.path)
    assert state.state == "finished"
    assert Recipe.load(folder.recipe) == finished_run.recipe
    assert {path.name for path in folder.models.iterdir()} == {
        "teacher.safetensors",
        "baseline.safetensors",
        "distilled.safetensors",
    }
    assert "| distilled |" in (folder.report / "report.md").read_text()
    assert not [path for path in folder.path.rglob(".*") if path.name != ".lock"]


def test_stages_that_are_finished_are_not_repeated(finished_run, tmp_path, monkeypatch):
    shutil.copytree(finished_run.path, tmp_path / "run")
    monkeypatch.setattr("src_training.runs.finalise.finalise", lambda *_: None)
    events = []
    distil(finished_run.recipe, tmp_path / "run", resume=True, device="cpu", listener=events.append)
    # The note that nothing was gained is repeated when the run is resumed.
    kinds = [type(event) for event in events if not isinstance(event, Noted)]
    assert kinds == [RunStarted, RunFinished]
