"""What watching a run costs the window: ``xvfb-run python -m tests.bench_watching``.

It prints milliseconds that the main thread computes, so that a busy machine changes
little; nothing here passes or fails. Painting is measured into a picture: what a
window's flush costs depends on the graphics card. The bare label pays for the flush
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
from src_training.data.phantom.camera import fundus_phantom
from src_training.runs.directory import RunDirectory
from src_training.runs.events import EventLog, RunStarted, StageStarted, StepDone
from src_training.runs.history import RunHistory

STEPS = 10_000
INTERVALS = 4
_PHANTOMS = DomainRecipe(name="A", phantoms=Phantoms(scanner="A", images=3, size=64))
LOSSES = ("ce", "dice", "intra", "inter", "cross")


def step(number: int) -> StepDone:
    """A step with five losses of different sizes."""
    noise = 1 + 0.2 * np.random.default_rng(number).standard_normal(len(LOSSES))
    sizes = zip(LOSSES, noise, range(len(LOSSES)), strict=True)
    fall = math.exp(-number / 3000)
    losses = {name: abs(float(x)) * fall * 10.0**-place for name, x, place in sizes}
    return StepDone(stage="distil", step=number, total=sum(losses.values()), losses=losses)


def spin(seconds: float, work: Callable[[], object] = lambda: None) -> None:
    """Let the event loop turn."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        QApplication.processEvents()
        work()


def report(what: str, took: list[float]) -> None:
    """Print times in milliseconds."""
    print(f"{what}: median {1000 * median(took):.1f} ms, longest {1000 * max(took):.1f} ms")


def curves(viewer: Viewer) -> None:
    """A redraw, painting and all, after 10,000 steps with 5 losses and a total."""
    widget, timeline = TrainingCurves(viewer), StageBar(viewer)
    viewer.window.add_dock_widget(widget, name="curves")
    viewer.window.add_dock_widget(timeline, name="timeline")
    spin(2)
    history = RunHistory()
    history.take(RunStarted(device="cpu", precision="32", stages=["distil"]))
    history.take(StageStarted(stage="distil", step=0, steps=2 * STEPS))
    for number in range(1, STEPS + 1):
        history.take(step(number))
    took: dict[str, list[float]] = {"first": [], "set": [], "paint": [], "timeline": []}
    began = time.thread_time()
    widget.draw(history)
    widget.redraw()
    took["first"].append(time.thread_time() - began)
    spin(0.5)
    for number in range(STEPS + 1, STEPS + 61):
        history.take(step(number))
        began = time.thread_time()
        widget.redraw()
        set_at = time.thread_time()
        widget.losses.canvas.viewport().grab()
        painted = time.thread_time()
        timeline.draw(history)
        timeline.grab()
        took["set"].append(set_at - began)
        took["paint"].append(painted - set_at)
        took["timeline"].append(time.thread_time() - painted)
        spin(0.02)
    report("first redraw after attaching, 10,000 steps", took["first"])
    report("redraw, 10,000 steps x 6 lines, lines set", took["set"])
    report("redraw, 10,000 steps x 6 lines, painted", took["paint"])
    report("timeline, drawn and painted", took["timeline"])


def ticks() -> None:
    """A tick while 500 events arrive, and reading 10,000 that were there."""
    with tempfile.TemporaryDirectory() as folder:
        log = EventLog(Path(folder) / "events.jsonl")
        log.write(RunStarted(device="cpu", precision="32", stages=["distil"]))
        log.write(StageStarted(stage="distil", step=0, steps=2 * STEPS))
        for number in range(1, STEPS + 1):
            log.write(step(number))
        job = RunWatcher(Path(folder))
        job._timer.stop()
        report("tick, 10,000 events to read", timed_until(job, STEPS))
        took = []
        for start in range(STEPS + 1, STEPS + 5001, 500):
            for number in range(start, start + 500):
                log.write(step(number))
            took += timed_until(job, start + 499)
        report("tick, 500 events arrived since the last", took)
        job.close()


def heartbeat(viewer: Viewer) -> None:
    """Longest gaps between beats of the main thread while a run with 10,000 steps goes on."""
    with tempfile.TemporaryDirectory() as root:
        folder = RunDirectory(Path(root) / "run")
        recipe_for("run", [_PHANTOMS], [], "enet", "quick").save(folder.recipe)
        log = EventLog(folder.events)
        log.write(RunStarted(device="cpu", precision="32", stages=["distil"]))
        log.write(StageStarted(stage="distil", step=0, steps=2 * STEPS))
        for number in range(1, STEPS + 1):
            log.write(step(number))
        label = QLabel("0")
        viewer.window.add_dock_widget(label, name="label")
        beats("a bare label that changes four times a second", lambda n: label.setText(str(n)))
        viewer.window.remove_dock_widget(label)
        widget = TrainWidget(viewer)
        viewer.window.add_dock_widget(widget, name="Train & distil")
        widget.pages.setCurrentWidget(widget.runs)
        with folder.locked():
            widget.runs.watch(RunWatcher(folder.path, widget.runs))
            spin(4)
            numbers = itertools.count(STEPS + 1)
            beats("a run watched, 40 steps a second", lambda _: write(log, numbers, 10))
        widget.end()
        viewer.window.remove_dock_widget(widget)


def write(log: EventLog, numbers: "itertools.count[int]", count: int) -> None:
    """Let a run say some steps more."""
    for number in itertools.islice(numbers, count):
        log.write(step(number))


def beats(what: str, each: Callable[[int], object], seconds: float = 10) -> None:
    """Print the gaps between beats of the event loop, with `each` done four times a second."""
    loop, beat, now_and_then = QEventLoop(), QTimer(), QTimer()
    times, turns = [(time.perf_counter(), time.thread_time())], itertools.count()
    beat.timeout.connect(lambda: times.append((time.perf_counter(), time.thread_time())))
    now_and_then.timeout.connect(lambda: each(next(turns)))
    beat.start(1)
    now_and_then.start(250)
    QTimer.singleShot(round(1000 * seconds), loop.quit)
    loop.exec()
    beat.stop()
    now_and_then.stop()
    wall, own = 1000 * np.diff(times, axis=0).T
    print(
        f"{what}: longest stall {wall.max():.0f} ms, of which it computed at most "
        f"{own.max():.0f} ms; 99 % below {np.percentile(wall, 99):.0f} ms"
    )


def speed(viewer: Viewer) -> None:
    """Steps of a teacher while it is watched, previews and all, against those while it is not."""
    image = viewer.add_image(fundus_phantom(7, 512).image, name="photograph")
    recipe = recipe_for("speed", [_PHANTOMS], [], "enet", "quick")
    stages, every = recipe.stages, recipe.stages["teacher"].validate_every
    longer = stages["teacher"].model_copy(update={"steps": (2 * INTERVALS + 2) * every})
    recipe = recipe.model_copy(update={"stages": stages | {"teacher": longer}})
    previews = 0
    costs: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    with tempfile.TemporaryDirectory() as root:
        job = RunWatcher.start(recipe, Path(root) / "run", "cpu")
        reach(job, every)
        process = psutil.Process(job.history.process)
        for turn in range(2 * INTERVALS):
            watched = bool(turn % 2)
            widget = watching(viewer, job) if watched else None
            before = spent(process)
            reach(job, (turn + 2) * every)
            costs[watched].append(tuple(np.subtract(spent(process), before)))
            if widget is not None:
                previews += widget.runs.preview.layer is not None
                widget.end()
                viewer.window.remove_dock_widget(widget)
                del viewer.layers[1:]
                job.folder.preview_input.unlink()
        job.stop(wait=True)
        job.close()
    viewer.layers.remove(image)
    own, wall = np.median(costs[True], axis=0) / np.median(costs[False], axis=0)
    print(
        f"a step while watched takes {own:.3f} x the processor time and {wall:.3f} x the time, "
        f"with {previews} previews in {INTERVALS} x {every} steps"
    )


def watching(viewer: Viewer, job: RunWatcher) -> TrainWidget:
    """A window that watches a run and previews the first layer."""
    widget = TrainWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Train & distil")
    widget.pages.setCurrentWidget(widget.runs)
    widget.runs.previewed.layer = viewer.layers["photograph"]
    widget.runs.watch(RunWatcher(job.folder.path, widget.runs))
    return widget


def reach(job: RunWatcher, step: int) -> None:
    """Let the event loop turn until a run's teacher has come so far."""
    loop = QEventLoop()
    job.advanced.connect(lambda history: history.stages["teacher"].step >= step and loop.quit())
    loop.exec()


def spent(process: psutil.Process) -> tuple[float, float]:
    """Seconds of the processor that a process used, and of the clock."""
    used = process.cpu_times()
    return used.user + used.system, time.perf_counter()


def timed_until(job: RunWatcher, last: int) -> list[float]:
    """Seconds of each tick until a step was read."""
    took = []
    while job.history.stages["distil"].step < last:
        began = time.thread_time()
        job.tick()
        took.append(time.thread_time() - began)
    return took


def main() -> None:
    """Measure all."""
    viewer = Viewer()
    began = time.perf_counter()
    list(load_pyqtgraph())
    print(f"pyqtgraph is imported in {1000 * (time.perf_counter() - began):.0f} ms, by a worker")
    curves(viewer)
    ticks()
    heartbeat(viewer)
    speed(viewer)
    viewer.close()


if __name__ == "__main__":
    main()
