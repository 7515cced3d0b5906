"""Train & distil in a real napari window: from layers to a student that segments."""

import dataclasses
import json
import shutil

import psutil
import pytest
from qtpy.QtCore import Qt, QTimer
from qtpy.QtGui import QCloseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_msankd import settings
from napari_msankd.segment.widget import SegmentWidget
from napari_msankd.training import monitor_page as runs_page
from napari_msankd.training import setup_page as prepare
from napari_msankd.training import widget as distil
from napari_msankd.training.monitor.run_watcher import RunWatcher
from napari_msankd.training.widget import TrainWidget
from src_training.config.recipe import Recipe
from src_training.config.stages import REQUIRED_STAGES
from src_training.inference.model_file import read_card
from src_training.runs.directory import RunDirectory
from src_training.runs.events import Noted
from src_training.runs.state import run_state
from tests.gui.conftest import PATIENCE

from .event_log import run_events, stage_events, start_events, write_report, write_run

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Conversion from CIE-LAB:UserWarning"),
]


@pytest.fixture(autouse=True)
def own_folders(monkeypatch, tmp_path):
    """Use a runs folder with spaces and umlauts in its name."""
    root = tmp_path / "Läufe von heute"
    chosen = settings.Preferences("cpu", cache=tmp_path / "cache", runs=root, on_close="leave")
    for module in (distil, prepare, runs_page):
        monkeypatch.setattr(module, "preferences", lambda: chosen)
    # Disable the cost estimate, which would slow down the tests.
    monkeypatch.setattr(prepare, "_REST_MS", 10**7)
    return chosen


@pytest.fixture
def make_widget(viewer, qtbot):
    made = []

    def make():
        widget = TrainWidget(viewer)
        viewer.window.add_dock_widget(widget, name="Train & distil")
        made.append(widget)
        return widget

    yield make
    for widget in made:
        if widget.runs.job is not None:
            widget.runs.job.stop(wait=True)
        widget.end()
    qtbot.waitUntil(
        lambda: not any(w.prepare.workers or w.runs.workers for w in made), timeout=PATIENCE
    )


@pytest.fixture
def begun(make_widget, eyes, make_recipe, qtbot):
    """Choose the layers, change the recipe to a tiny one, press Start."""

    def begin(steps=3):
        widget = make_widget()
        qtbot.waitUntil(lambda: bool(widget.prepare.state.sources), timeout=PATIENCE)
        widget.prepare.state.edit(make_recipe(steps))
        widget.prepare.name.setText("mine")
        widget.prepare.start.click()
        qtbot.waitUntil(lambda: widget.runs.job is not None, timeout=PATIENCE)
        return widget

    return begin


def main_window(widget):
    return widget.parent().parent()


def ended(widget):
    return lambda: widget.runs.job.state is not None


def at_work(widget):
    return lambda: any(stage.step for stage in widget.runs.job.history.stages.values())


def test_painted_layers_become_a_student_that_segments(begun, viewer, qtbot):
    widget = begun()
    assert widget.pages.currentWidget() is widget.runs
    qtbot.waitUntil(ended(widget), timeout=PATIENCE)
    runs = widget.runs
    assert runs.job.state.state == "finished", runs.job.state.stop_reason
    assert runs.state.verdict.headline in runs.status.text()
    assert runs.results.verdict.text() == runs.state.verdict.sentence
    assert runs.pages.currentWidget() is runs.results
    folder = RunDirectory(runs.job.folder.path)
    assert Recipe.load(folder.recipe).sources[0].folder.startswith(str(folder.path))
    runs.results.segment.click()
    segment = next(w for w in viewer.window.dock_widgets.values() if isinstance(w, SegmentWidget))
    segment.image.layer = viewer.layers["eye 0"]
    segment.run.click()
    qtbot.waitUntil(lambda: not segment.running, timeout=PATIENCE)
    assert segment.result.data.shape == (96, 96)
    assert segment.model.entry.name == "mine" and segment.model.entry.run == folder.path
    assert segment.result.metadata["msankd"]["model"] == read_card(segment.model.path).name
    segment.end()


def test_long_notes_of_a_run_do_not_grow_the_window(make_widget, own_folders, qtbot):
    sentences = [f"Note {number}: {'a long sentence ' * 30}" for number in range(9)]
    notes = [Noted(stage="distil", step=4, sentence=sentence) for sentence in sentences]
    run = write_run(own_folders.runs / "long", [*start_events(), *notes, *run_events()[1:]])
    write_report(run)
    widget = make_widget()
    window = main_window(widget)
    window.show()
    window.resize(1280, 800)
    widget.pages.setCurrentWidget(widget.runs)
    widget.runs.choice.open(run)
    qtbot.waitUntil(ended(widget), timeout=PATIENCE)
    runs = widget.runs
    # Notes stand once, on the page of the result.
    assert runs.status.text().startswith("✓ ") and "Note" not in runs.status.text()
    assert all(f"⚠ {sentence}" in runs.results.note.text() for sentence in sentences)
    for page in (runs.curves, runs.results):
        runs.pages.setCurrentWidget(page)
        QApplication.processEvents()
        assert window.minimumSizeHint().height() <= 800
    runs.results.note.clear()
    runs.pages.setCurrentWidget(runs.curves)
    qtbot.waitUntil(lambda: runs.curves.dice is not None, timeout=PATIENCE)
    QApplication.processEvents()
    assert runs.curves.dice.visibleRegion().boundingRect() == runs.curves.dice.rect()
    assert window.height() == 800


def test_a_control_trains_beside_its_run(
    make_widget, finished_run, own_folders, monkeypatch, qtbot
):
    run = own_folders.runs / "mine"
    shutil.copytree(finished_run.path, run)
    started = []

    def start(recipe, folder, _device, parent):
        started.append(recipe)
        return RunWatcher(folder, parent)

    monkeypatch.setattr(RunWatcher, "start", start)
    monkeypatch.setattr(
        "src_training.comparison.controls.step_seconds",
        lambda _directories, stage: 3.0 if stage == "distil" else 1.0,
    )
    runs = make_widget().runs
    runs.results.train_control.emit(run)
    qtbot.waitUntil(lambda: bool(started), timeout=PATIENCE)
    assert started[0].masks_alone.longer == 3
    assert runs.job.folder.path.name == "mine-equal-time"
    assert runs.job.folder.stage("baseline").exists() and not runs.job.folder.begun("distil")


def test_stop_ends_the_process_and_resume_goes_on(begun, qtbot):
    widget = begun(steps=400)
    runs = widget.runs
    qtbot.waitUntil(at_work(widget), timeout=PATIENCE)
    process = psutil.Process(runs.job.history.process)
    assert runs.stop_button.isEnabled() and not runs.resume_button.isEnabled()
    runs.stop_button.click()
    qtbot.waitUntil(lambda: not process.is_running() or process.status() == "zombie", timeout=3000)
    qtbot.waitUntil(ended(widget), timeout=PATIENCE)
    assert runs.job.state.state == "stopped"
    assert runs.resume_button.isEnabled() and not runs.stop_button.isEnabled()
    done = run_state(runs.job.folder.path).step
    runs.resume_button.click()
    qtbot.waitUntil(lambda: runs.job.history.process != process.pid, timeout=PATIENCE)
    qtbot.waitUntil(lambda: run_state(runs.job.folder.path).step > done, timeout=PATIENCE)


def test_a_widget_opened_anew_finds_the_run_that_goes_on(begun, make_widget, viewer, qtbot):
    first = begun(steps=400)
    qtbot.waitUntil(at_work(first), timeout=PATIENCE)
    viewer.window.remove_dock_widget(first)
    second = make_widget()
    pages = second.pages
    qtbot.waitUntil(lambda: pages.tabText(1) == "R&uns ●", timeout=PATIENCE)
    assert pages.tabToolTip(1) == "Running: mine"
    pages.setCurrentWidget(second.runs)
    qtbot.waitUntil(lambda: second.runs.job is not None, timeout=PATIENCE)
    qtbot.waitUntil(at_work(second), timeout=PATIENCE)
    assert second.runs.job.folder.path.name == "mine"
    assert second.runs.job.running
    second.runs.job.stop(wait=True)
    pages.setCurrentWidget(second.prepare)
    qtbot.waitUntil(lambda: pages.tabText(1) == "R&uns", timeout=PATIENCE)


def test_a_killed_run_is_not_shown_as_stopped(begun, qtbot):
    widget = begun(steps=400)
    qtbot.waitUntil(at_work(widget), timeout=PATIENCE)
    psutil.Process(widget.runs.job.history.process).kill()
    qtbot.waitUntil(ended(widget), timeout=PATIENCE)
    assert widget.runs.job.state.state == "died"
    assert widget.runs.status.text().startswith("✕ Ended unexpectedly")
    assert widget.runs.resume_button.isEnabled()


@pytest.mark.parametrize("on_close, state", [("leave", "running"), ("stop", "stopped")])
def test_closing_napari_leaves_or_stops_the_run_as_preferred(
    on_close, state, begun, own_folders, monkeypatch, qtbot
):
    chosen = settings.Preferences(
        "cpu", own_folders.memory_limit, own_folders.cache, own_folders.runs, on_close
    )
    monkeypatch.setattr(distil, "preferences", lambda: chosen)
    widget = begun(steps=400)
    qtbot.waitUntil(at_work(widget), timeout=PATIENCE)
    # Call the filter directly, because sending the event would close napari.
    widget.eventFilter(main_window(widget), QCloseEvent())
    assert run_state(widget.runs.job.folder.path).state == state


@pytest.mark.parametrize("answer, stops", [("&Keep running", False), ("&Stop", True)])
@pytest.mark.parametrize("remembered", [False, True])
def test_who_closes_napari_is_asked_once(
    answer, stops, remembered, make_widget, own_folders, monkeypatch
):
    chosen = dataclasses.replace(own_folders, on_close="ask")
    monkeypatch.setattr(distil, "preferences", lambda: chosen)
    kept, stopped = [], []
    monkeypatch.setattr(distil, "remember_on_close", kept.append)
    run = write_run(
        own_folders.runs / "recorded", [*start_events(), *stage_events("teacher", 100, to=2)]
    )
    widget = make_widget()
    QApplication.processEvents()
    widget.runs.watch(RunWatcher(run))
    monkeypatch.setattr(widget.runs.job, "stop", lambda wait=False: stopped.append(wait))

    def reply():
        box = QApplication.activeModalWidget()
        assert "recorded" in box.text()
        box.checkBox().setChecked(remembered)
        next(button for button in box.buttons() if button.text() == answer).click()

    QTimer.singleShot(100, reply)
    widget.eventFilter(main_window(widget), QCloseEvent())
    assert stopped == [True] * stops
    assert kept == (["stop" if stops else "leave"] if remembered else [])


def test_a_run_out_of_sight_is_watched_and_stopped_with_napari(
    begun, own_folders, monkeypatch, qtbot
):
    widget = begun(steps=400)
    runs, first = widget.runs, widget.runs.job
    qtbot.waitUntil(at_work(widget), timeout=PATIENCE)
    other = write_run(own_folders.runs / "other", [*start_events(), *stage_events("teacher")])
    runs.choice.open(other)
    qtbot.waitUntil(lambda: runs.state.run == other, timeout=PATIENCE)
    qtbot.waitUntil(ended(widget), timeout=PATIENCE)
    assert runs.running == [first]
    chosen = dataclasses.replace(own_folders, on_close="stop")
    monkeypatch.setattr(distil, "preferences", lambda: chosen)
    widget.eventFilter(main_window(widget), QCloseEvent())
    assert run_state(first.folder.path).state == "stopped"
    # Opening the run again reuses its watcher, with the events that it has read.
    runs.choice.open(first.folder.path)
    qtbot.waitUntil(lambda: runs.job is first, timeout=PATIENCE)
    qtbot.waitUntil(lambda: runs.state.can_resume, timeout=PATIENCE)


@pytest.fixture
def watched(make_widget, own_folders, monkeypatch):
    """A widget that watches an active run, asks on close, and records calls of `stop`."""
    chosen = dataclasses.replace(own_folders, on_close="ask")
    monkeypatch.setattr(distil, "preferences", lambda: chosen)
    run = write_run(
        own_folders.runs / "recorded", [*start_events(), *stage_events("teacher", 100, to=2)]
    )
    widget = make_widget()
    QApplication.processEvents()
    widget.runs.watch(RunWatcher(run))
    widget.stopped = []
    monkeypatch.setattr(widget.runs.job, "stop", lambda wait=False: widget.stopped.append(wait))
    return widget


@pytest.mark.parametrize("floating", [False, True])
def test_cancel_keeps_napari_open_also_with_a_floating_dock(floating, watched):
    dock, window, asked = watched.parent(), main_window(watched), []
    dock.setFloating(floating)

    def reply():
        box = QApplication.activeModalWidget()
        asked.append(box.text())
        QTest.keyClick(box, Qt.Key.Key_Escape)

    QTimer.singleShot(100, reply)
    event = QCloseEvent()
    QApplication.sendEvent(window, event)
    assert len(asked) == 1 and not event.isAccepted()
    assert watched.stopped == [] and not watched.ended


def test_a_widget_whose_dock_was_closed_asks_nothing(watched, viewer):
    window = main_window(watched)
    viewer.window.remove_dock_widget(watched)
    assert watched.ended
    # A dialog would block the test forever.
    assert not watched.eventFilter(window, QCloseEvent())


def test_segment_with_reuses_the_open_widget(make_widget, viewer, model, npe2pm, manifest, qtbot):
    npe2pm.register(manifest)
    widget = make_widget()
    for _ in range(2):
        widget.segment_with(model)
    opened = [w for w in viewer.window.dock_widgets.values() if isinstance(w, SegmentWidget)]
    assert len(opened) == 1 and opened[0].model.path == model
    opened[0].end()


def test_the_time_left_counts_the_report(make_widget, own_folders):
    run = write_run(
        own_folders.runs / "recorded", [*start_events(), *stage_events("teacher", 100, to=2)]
    )
    estimate = {"stage_seconds": dict.fromkeys(REQUIRED_STAGES, 0.0), "scoring": 7200.0}
    RunDirectory(run).estimate.write_text(json.dumps(estimate))
    widget = make_widget()
    widget.runs.watch(RunWatcher(run))
    widget.runs.job.tick()
    assert "about 2 h left" in widget.runs.stage_bar.text


def test_a_run_that_ended_is_given_nothing_to_preview(make_widget, own_folders, eyes, qtbot):
    run = write_run(
        own_folders.runs / "recorded", [*start_events(), *stage_events("teacher", 100, to=2)]
    )
    widget = make_widget()
    widget.runs.watch(RunWatcher(run))
    qtbot.waitUntil(ended(widget), timeout=PATIENCE)
    assert not widget.runs.previewed.isEnabled()
    widget.runs.previewed.layer = eyes.layers["eye 0"]
    assert not widget.runs.preview.active


def test_the_name_of_the_dock_is_whole_in_tabs_and_menus(make_widget, viewer):
    dock = make_widget().parent()
    assert dock.toggleViewAction().text() == "Train && distil"
