"""Stopping the process of a run by a signal, or by a file on Windows."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from src_training.cli.progress import RunDisplay
from src_training.runs import process
from src_training.runs.directory import RunDirectory
from src_training.runs.process import command, request_stop, stop_request
from src_training.runs.state import run_state
from src_training.training.distributed.launch import PARENT_PID, parent_ended, stop_when

PATIENCE = 60


@pytest.fixture
def stopped():
    """Set when the handler of SIGTERM is called."""
    called = threading.Event()
    former = signal.signal(signal.SIGTERM, lambda *_: called.set())
    yield called
    signal.signal(signal.SIGTERM, former)


def wait_for(condition):
    """In small steps: the handler of a signal is called between two of the main thread."""
    end = time.monotonic() + PATIENCE
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    assert condition()


def test_a_condition_stops_the_main_thread_as_a_signal_does(stopped):
    asked = threading.Event()
    with stop_when(asked.is_set):
        assert not stopped.is_set()
        asked.set()
        wait_for(stopped.is_set)


def test_a_run_knows_when_its_parent_has_ended(monkeypatch):
    assert not parent_ended()()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as parent:
        monkeypatch.setenv(PARENT_PID, str(parent.pid))
        ended = parent_ended()
        assert not ended()
        parent.communicate(b"\n")
    wait_for(ended)
    assert parent_ended()()


def test_on_windows_a_run_stops_at_a_file_and_saves_its_steps(
    msankd, finished_run, tmp_path, monkeypatch
):
    recipe, run = tmp_path / "recipe.yaml", RunDirectory(tmp_path / "run")
    finished_run.recipe.save(recipe)
    show = RunDisplay.show

    def ask(self, event):
        show(self, event)
        if event.kind == "step_done":
            handler = signal.getsignal(signal.SIGTERM)
            with monkeypatch.context() as windows:
                windows.setattr(process.sys, "platform", "win32")
                request_stop(None, run)
            wait_for(lambda: signal.getsignal(signal.SIGTERM) is not handler)

    monkeypatch.setattr(RunDisplay, "show", ask)
    said = msankd("distil", recipe, "--out", run.path, "--device", "cpu")
    assert said.code == 130 and f"msankd distil --resume {run.path}" in said.err
    assert run_state(run.path).state == "stopped" and run.begun("teacher")


def test_a_request_of_a_former_process_is_forgotten(tmp_path, monkeypatch):
    monkeypatch.setattr(process.sys, "platform", "win32")
    run = RunDirectory(tmp_path)
    request_stop(None, run)
    requested = stop_request(run)
    assert not requested()
    request_stop(None, run)
    assert requested()


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
def test_elsewhere_a_run_is_asked_by_a_signal(tmp_path):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        request_stop(child, RunDirectory(tmp_path))
        assert child.wait(PATIENCE) == -signal.SIGTERM
    assert list(tmp_path.iterdir()) == []


def test_what_a_run_prints_is_utf8():
    program = command([])
    code = "import sys; print(sys.stdout.encoding)"
    said = subprocess.run(
        [*program[: program.index("-m")], "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"},
    )
    assert said.stdout.strip() == "utf-8"
