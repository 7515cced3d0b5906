"""Workers: items arrive, errors arrive as values, and cancelled workers emit nothing."""

import errno
import subprocess
import sys
import threading
from dataclasses import dataclass

import pytest
from qtpy.QtCore import QObject

from napari_msankd.workers import Failure, WorkerGroup
from src_training.errors import InputError


@dataclass(frozen=True)
class Step:
    done: int
    total: int


@pytest.fixture
def group(qtbot):
    parent = QObject()
    failures = []
    workers = WorkerGroup(parent, failures.append)
    yield workers, failures
    workers.cancel_all()


def fails(error):
    yield 1
    raise error


@pytest.mark.parametrize(
    ("error", "sentence", "traced"),
    [
        (InputError("a.png is empty; expected pixels"), "a.png is empty", False),
        (MemoryError(), "Out of memory", False),
        (RuntimeError("could not create a primitive"), "Out of memory", False),
        (RuntimeError("DefaultCPUAllocator: not enough memory"), "Out of memory", False),
        (OSError(errno.ENOSPC, "full", "a.zarr"), "The disk of a.zarr is full", False),
        (FileNotFoundError(2, "missing", "a.png"), "A file could not be used", False),
        (RuntimeError("shapes differ"), "Please report it", True),
    ],
)
def test_an_error_arrives_as_a_sentence(group, qtbot, error, sentence, traced):
    workers, failures = group
    items = []
    workers.start("one", fails(error), items.append)
    qtbot.waitUntil(lambda: "one" not in workers)
    [failure] = failures
    assert isinstance(failure, Failure) and sentence in failure.sentence
    assert items == [1]
    assert bool(failure.traceback) == traced


def test_a_worker_takes_the_place_of_the_one_with_its_key(group, qtbot):
    workers, _ = group
    go_on, items = threading.Event(), []

    def slow():
        go_on.wait(30)
        yield "former"

    workers.start("check", slow(), items.append)
    workers.start("check", iter_of("later"), items.append)
    go_on.set()
    qtbot.waitUntil(lambda: not workers)
    assert items == ["later"]


def test_a_generator_is_closed_when_its_worker_is_cancelled(group, qtbot):
    workers, _ = group
    closed, begun = threading.Event(), threading.Event()

    def steps():
        try:
            while True:
                begun.set()
                yield
        finally:
            closed.set()

    workers.start("endless", steps(), lambda _: None)
    qtbot.waitUntil(begun.is_set)
    workers.cancel_all()
    qtbot.waitUntil(closed.is_set)


def test_napari_knows_of_a_long_task_while_it_runs(group, qtbot, make_napari_viewer):
    window = make_napari_viewer().window
    workers, _ = group
    go_on, seen = threading.Event(), []

    def steps():
        for done in range(3):
            yield Step(done, 3)
        go_on.wait(30)

    workers.start("run", steps(), seen.append, title="Segmenting 'fundus A'")
    qtbot.waitUntil(lambda: len(seen) == 3)
    # napari has no public access to the tasks that it asks about before it closes.
    [status] = window._task_status_manager.get_status()
    assert "Segmenting 'fundus A'" in status
    go_on.set()
    qtbot.waitUntil(lambda: "run" not in workers)
    assert not window._task_status_manager.is_busy()


def iter_of(*items):
    yield from items


STUCK = """
from threading import Event
from qtpy.QtWidgets import QApplication, QWidget
from napari_msankd import workers

started = Event()

def stuck():
    started.set()
    Event().wait()
    yield

app, parent = QApplication([]), QWidget()
workers.LONGEST_END = 0.1
workers.Worker(stuck(), parent).start()
while not started.is_set():
    app.processEvents()
print("last line")
"""


def test_a_program_ends_though_a_worker_does_not():
    done = subprocess.run(
        [sys.executable, "-c", STUCK], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (1, "last line\n"), done.stderr
