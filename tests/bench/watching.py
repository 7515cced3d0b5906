"""What watching a run costs the window and the run.

Milliseconds are those that the main thread computes. Painting is measured into a picture:
what a window's flush costs depends on the graphics card. The bare label pays for the flush
alone.
"""

import itertools
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import psutil
from napari import Viewer
from qtpy.QtCore import QEventLoop, QTimer
from qtpy.QtWidgets import QApplication, QLabel

from napari_msankd.training.monitor.run_watcher import RunWatcher
from napari_msankd.training.monitor.stage_bar import StageBar
from napari_msankd.training.monitor.training_curves import TrainingCurves
from napari_msankd.training.widget import TrainWidget
from napari_msankd.widgets.line_plot import load_pyqtgraph
from src_training.config.domains import DomainRecipe, Phantoms
from src_training.config.presets import recipe_for
from src_training.config.recipe import Recipe
from src_training.data.phantom.camera import fundus_phantom
from src_training.runs.directory import RunDirectory
from src_training.runs.events import EventLog, RunStarted, StageStarted, StepDone
from src_training.runs.history import RunHistory
from tests.bench.row import BenchRow, Rows

STEPS = 10_000
INTERVALS, INTERVAL = 2, 12
BEATS_SECONDS = 6
LOSSES = ("ce", "dice", "intra", "inter", "cross")


def rows() -> Rows:
    """Redraws, reading of events, gaps between beats of the main thread, and the run's steps."""
    viewer = Viewer()
    list(load_pyqtgraph())
    for measured in (curves(viewer), ticks(), stalls(viewer)):
        for what, seconds in measured.items():
            yield BenchRow(what, 1000 * seconds, "ms")
    what = f"step watched, a preview every {INTERVAL} steps / not watched"
    yield BenchRow(what, watched_steps(viewer))
    viewer.close()


def recipe() -> Recipe:
    """A run on phantoms."""
    phantoms = DomainRecipe(name="A", phantoms=Phantoms(scanner="A", images=3, size=64))
    return recipe_for("run", [phantoms], [], "enet", "quick")


def step(number: int) -> StepDone:
    """A step with five losses of different sizes."""
    noise = 1 + 0.2 * np.random.default_rng(number).standard_normal(len(LOSSES))
    sizes = zip(LOSSES, noise, range(len(LOSSES)), strict=True)
    fall = math.exp(-number / 3000)
    losses = {name: abs(float(x)) * fall * 10.0**-place for name, x, place in sizes}
    return StepDone(stage="distil", step=number, total=sum(losses.values()), losses=losses)


def spin(seconds: float) -> None:
    """Let the event loop turn."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        QApplication.processEvents()


def curves(viewer: Viewer) -> dict[str, float]:
    """A redraw after 10,000 steps with 5 losses and a total."""
    widget, timeline = TrainingCurves(viewer), StageBar(viewer)
    docks = [viewer.window.add_dock_widget(each) for each in (widget, timeline)]
    spin(2)
    history = RunHistory()
    history.take(RunStarted(device="cpu", precision="32", stages=["distil"]))
    history.take(StageStarted(stage="distil", step=0, steps=2 * STEPS))
    for number in range(1, STEPS + 1):
        history.take(step(number))
    widget.draw(history)
    widget.redraw()
    spin(0.5)
    took: list[tuple[float, float, float, float]] = []
    for number in range(STEPS + 1, STEPS + 31):
        history.take(step(number))
        began = time.thread_time()
        widget.redraw()
        redrawn = time.thread_time()
        widget.losses.canvas.viewport().grab()
        painted = time.thread_time()
        timeline.draw(history)
        timeline.grab()
        took.append((began, redrawn, painted, time.thread_time()))
        spin(0.02)
    for dock in docks:
        viewer.window.remove_dock_widget(dock)
    names = ("curves of 10,000 steps, lines set", "curves painted", "bar of stages painted")
    return dict(zip(names, np.median(np.diff(took), axis=0), strict=True))


def ticks() -> dict[str, float]:
    """A tick while 500 events arrive, and reading 10,000 that were there."""
    with tempfile.TemporaryDirectory() as folder:
        log = event_log(Path(folder) / "events.jsonl")
        watcher = RunWatcher(Path(folder))
        watcher._timer.stop()
        first = sum(timed_until(watcher, STEPS))
        later = []
        for start in range(STEPS + 1, STEPS + 5001, 500):
            write(log, itertools.count(start), 500)
            later += timed_until(watcher, start + 499)
        watcher.close()
    return {"10,000 events read": first, "tick with 500 new events": median(later)}


def event_log(file: Path) -> EventLog:
    """Events of a run after 10,000 steps."""
    log = EventLog(file)
    log.write(RunStarted(device="cpu", precision="32", stages=["distil"]))
    log.write(StageStarted(stage="distil", step=0, steps=2 * STEPS))
    write(log, itertools.count(1), STEPS)
    return log


def write(log: EventLog, numbers: "itertools.count[int]", count: int) -> None:
    """Write some steps more."""
    for number in itertools.islice(numbers, count):
        log.write(step(number))


def timed_until(watcher: RunWatcher, last: int) -> list[float]:
    """Seconds of each tick until a step was read."""
    took = []
    while watcher.history.stages["distil"].step < last:
        began = time.thread_time()
        watcher.tick()
        took.append(time.thread_time() - began)
    return took


def stalls(viewer: Viewer) -> dict[str, float]:
    """Most that the main thread computes in one go while a run with 10,000 steps goes on."""
    with tempfile.TemporaryDirectory() as root:
        folder = RunDirectory(Path(root) / "run")
        recipe().save(folder.recipe)
        log = event_log(folder.events)
        label = QLabel("0")
        viewer.window.add_dock_widget(label, name="label")
        bare = longest_turn(lambda number: label.setText(str(number)))
        viewer.window.remove_dock_widget(label)
        widget = train_widget(viewer)
        with folder.locked():
            widget.runs.watch(RunWatcher(folder.path, widget.runs))
            spin(4)
            numbers = itertools.count(STEPS + 1)
            watched = longest_turn(lambda _: write(log, numbers, 10))
        widget.end()
        viewer.window.remove_dock_widget(widget)
    return {
        "longest turn, a label that changes 4 times a second": bare,
        "longest turn, a run watched at 40 steps a second": watched,
    }


def longest_turn(each: Callable[[int], object]) -> float:
    """Most seconds computed between two beats, with `each` done four times a second."""
    loop, beat, now_and_then = QEventLoop(), QTimer(), QTimer()
    times, turns = [time.thread_time()], itertools.count()
    beat.timeout.connect(lambda: times.append(time.thread_time()))
    now_and_then.timeout.connect(lambda: each(next(turns)))
    beat.start(1)
    now_and_then.start(250)
    QTimer.singleShot(1000 * BEATS_SECONDS, loop.quit)
    loop.exec()
    beat.stop()
    now_and_then.stop()
    return float(np.diff(times).max())


def watched_steps(viewer: Viewer) -> float:
    """Processor time of a teacher's steps while watched, by that of steps while not."""
    image = viewer.add_image(fundus_phantom(7, 256).image, name="photograph")
    run = recipe()
    teacher = run.stages["teacher"].model_copy(
        update={"steps": (2 * INTERVALS + 2) * INTERVAL, "validate_every": INTERVAL}
    )
    run = run.model_copy(update={"stages": run.stages | {"teacher": teacher}})
    costs: dict[bool, list[float]] = {True: [], False: []}
    with tempfile.TemporaryDirectory() as root:
        watcher = RunWatcher.start(run, Path(root) / "run", "cpu")
        reach(watcher, INTERVAL)
        process = psutil.Process(watcher.history.process)
        for turn in range(2 * INTERVALS):
            watched = bool(turn % 2)
            widget = train_widget(viewer) if watched else None
            if widget is not None:
                widget.runs.previewed.layer = image
                widget.runs.watch(RunWatcher(watcher.folder.path, widget.runs))
            before = spent(process)
            reach(watcher, (turn + 2) * INTERVAL)
            costs[watched].append(spent(process) - before)
            if widget is not None:
                widget.end()
                viewer.window.remove_dock_widget(widget)
                del viewer.layers[1:]
                watcher.folder.preview_input.unlink()
        watcher.stop(wait=True)
        watcher.close()
    viewer.layers.remove(image)
    return median(costs[True]) / median(costs[False])


def train_widget(viewer: Viewer) -> TrainWidget:
    """The window of runs."""
    widget = TrainWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Train & distil")
    widget.pages.setCurrentWidget(widget.runs)
    return widget


def reach(watcher: RunWatcher, step: int) -> None:
    """Let the event loop turn until a run's teacher has come so far."""
    loop = QEventLoop()
    watcher.advanced.connect(lambda history: history.stages["teacher"].step >= step and loop.quit())
    loop.exec()


def spent(process: psutil.Process) -> float:
    """Seconds of the processor that a process used."""
    used = process.cpu_times()
    return used.user + used.system
