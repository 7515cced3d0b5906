"""Active, stopped and continued runs of the Segment widget."""

import re
from contextlib import contextmanager
from threading import Event

import numpy as np
import pytest
from qtpy.QtCore import QThreadPool

from napari_msankd.segment.widget import SegmentWidget
from src_training.inference.forward_progress import ForwardProgress
from src_training.inference.model_file import load_model
from src_training.inference.predictor import Predictor, labels_from
from tests.gui.conftest import PATIENCE, make_model

# As in test_segment_widget.py.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Conversion from CIE-LAB:UserWarning"),
]


@pytest.fixture
def slow():
    """A stack with so many planes that a run can be stopped before its end."""
    return np.random.default_rng(3).random((150, 24, 24), np.float32)


def test_stop_keeps_what_is_done(slow, viewer, widget, model, qtbot):
    viewer.add_image(slow)
    viewer.dims.set_point(0, 0)
    widget.run.click()
    qtbot.waitUntil(lambda: widget.result is not None, timeout=PATIENCE)
    assert widget.stop.isEnabled()
    widget.stop.click()
    qtbot.waitUntil(lambda: not widget.running, timeout=PATIENCE)
    labels = widget.result
    assert labels.data[0].any()
    assert not labels.data[-1].any()
    assert labels.metadata["msankd"]["complete"] is False
    assert re.match(r"Stopped: .* has \d+ of 150 slices \(0", widget.status.text())
    assert widget.run.isEnabled()
    assert not widget.stop.isEnabled()


def test_progress_counts_slices_and_the_time_left(slow, viewer, widget, qtbot):
    viewer.add_image(slow)
    widget.run.click()
    qtbot.waitUntil(lambda: widget.state.progress.slices > 2, timeout=PATIENCE)
    assert "of 150 slices" in widget.progress.format()
    assert 0 < widget.progress.value() < widget.progress.maximum()


def test_removing_the_result_stops_the_run(slow, viewer, widget, qtbot):
    viewer.add_image(slow)
    widget.run.click()
    qtbot.waitUntil(lambda: widget.result is not None, timeout=PATIENCE)
    viewer.layers.remove(widget.result)
    qtbot.waitUntil(lambda: not widget.running, timeout=PATIENCE)
    assert len(viewer.layers) == 1
    assert widget.run.isEnabled()


def test_removing_the_image_lets_the_run_end_well(stack, viewer, widget, qtbot):
    image = viewer.add_image(stack)
    widget.run.click()
    viewer.layers.remove(image)
    qtbot.waitUntil(lambda: not widget.running, timeout=PATIENCE)
    assert widget.result.metadata["msankd"]["complete"] is True


@pytest.fixture
def stopped(slow, viewer, widget, qtbot):
    """Labels of a stopped run on a CT in mm."""
    viewer.add_image(slow, scale=(2, 1, 1), units=("mm",) * 3, name="ct")
    viewer.dims.set_current_step(0, 0)
    widget.run.click()
    qtbot.waitUntil(lambda: widget.state.progress.slices > 2, timeout=PATIENCE)
    widget.stop.click()
    qtbot.waitUntil(lambda: not widget.running, timeout=PATIENCE)
    return widget.result


def test_figures_of_a_stopped_run_name_its_slices(stopped, slow, viewer, widget, qtbot):
    slices = stopped.metadata["msankd"]["slices"]
    part = f"{len(slices)} of 150 slices"
    assert 2 < len(slices) < 150
    ml = np.count_nonzero(stopped.data[slices]) * 2 / 1000
    text = f"vessel {ml:.3g} ml in {part}"
    qtbot.waitUntil(lambda: widget.volumes.text() == text, timeout=PATIENCE)
    widget.reference.layer = viewer.add_labels(stopped.data.copy(), scale=(2, 1, 1), units="mm")
    qtbot.waitUntil(lambda: "Dice 1.000" in widget.scores.text(), timeout=PATIENCE)
    assert part in widget.scores.text()


def test_continue_goes_on_in_the_same_layer(stopped, slow, viewer, widget, model, qtbot):
    before = stopped.metadata["msankd"]["seconds"]
    assert not widget.resume.isHidden() and widget.stop.isHidden()
    first = stopped.data[0].copy()
    widget.resume.click()
    assert widget.running and widget.resume.isHidden()
    qtbot.waitUntil(lambda: not widget.running, timeout=PATIENCE)
    assert widget.result is stopped and len(viewer.layers) == 2
    record = stopped.metadata["msankd"]
    assert record["complete"] is True and record["slices"] == list(range(150))
    assert record["seconds"] > before
    predictor = Predictor(load_model(model), "cpu")
    for index in (0, 75, 149):
        wanted = labels_from(predictor.predict(slow[index]), 0.5)
        assert np.array_equal(stopped.data[index], wanted)
    assert np.array_equal(stopped.data[0], first)
    assert "is ready" in widget.status.text() and widget.resume.isHidden()
    qtbot.waitUntil(lambda: widget.volumes.text().endswith("ml"), timeout=PATIENCE)


def brush(labels):
    labels.paint((140, 10, 10), 1)


def fill(labels):
    labels.fill((140, 10, 10), 1)


def polygon(labels):
    labels.paint_polygon([(140, 5, 5), (140, 5, 20), (140, 20, 5)], 1)


def pixels(labels):
    labels.data_setitem((np.array([140, 140]), np.array([3, 4]), np.array([5, 5])), 1)


@pytest.mark.parametrize("tool", [brush, fill, polygon, pixels])
def test_continue_leaves_painted_slices_alone(tool, stopped, viewer, widget, qtbot):
    viewer.dims.set_current_step(0, 140)
    tool(stopped)
    painted = stopped.data[140].copy()
    assert painted.any()
    stopped.undo()
    assert not stopped.data[140].any()
    stopped.redo()
    assert np.array_equal(stopped.data[140], painted)
    widget.resume.click()
    qtbot.waitUntil(lambda: not widget.running, timeout=PATIENCE)
    assert np.array_equal(stopped.data[140], painted)
    assert stopped.metadata["msankd"]["slices"] == [i for i in range(150) if i != 140]


def test_a_brush_in_3d_paints_the_slices_that_it_changes(stopped, viewer, widget, qtbot):
    stopped.n_edit_dimensions, stopped.brush_size = 3, 5
    stopped.paint((140, 10, 10), 1)
    painted = [int(z) for z in np.flatnonzero(stopped.data[130:].any(axis=(1, 2))) + 130]
    assert len(painted) > 1 and 140 in painted
    widget.resume.click()
    qtbot.waitUntil(lambda: not widget.running, timeout=PATIENCE)
    assert stopped.metadata["msankd"]["slices"] == [i for i in range(150) if i not in painted]


def test_continue_is_for_the_chosen_image_and_model_only(stopped, image, viewer, widget, tmp_path):
    ct = widget.image.layer
    viewer.add_image(image, rgb=True)
    assert widget.resume.isHidden()
    widget.image.layer = ct
    assert not widget.resume.isHidden()
    widget.model.open(make_model(tmp_path / "other.safetensors"))
    assert widget.resume.isHidden()


def test_stop_acts_within_the_only_tile_of_a_photograph(image, viewer, widget, monkeypatch, qtbot):
    """The first layer of the network blocks until Stop, so that no tile is completed."""
    going = Event()
    count = ForwardProgress.counting

    @contextmanager
    def waiting(passes, network):
        with count(passes, network):
            first = next(module for module in network.modules() if not any(module.children()))
            hook = first.register_forward_hook(lambda *_: going.wait(PATIENCE / 1000) and None)
            yield
            hook.remove()

    monkeypatch.setattr(ForwardProgress, "counting", waiting)
    viewer.add_image(image, rgb=True)
    widget.run.click()
    qtbot.waitUntil(lambda: widget.state.phase == "segmenting", timeout=PATIENCE)
    assert not widget.progress.isHidden() and widget.progress.maximum() > 0
    assert 0 < widget.progress.value() < widget.progress.maximum()
    widget.stop.click()
    assert "Stopping" in widget.status.text()
    going.set()
    qtbot.waitUntil(lambda: not widget.running, timeout=PATIENCE)
    assert widget.result is None and widget.status.text() == "Stopped; there is no result."


def test_the_phases_before_the_first_layer_are_text(image, viewer, widget, qtbot):
    viewer.add_image(image, rgb=True)
    widget.run.click()
    assert widget.status.text() == "Loading the model…" and widget.progress.isHidden()
    qtbot.waitUntil(lambda: not widget.running, timeout=PATIENCE)
    assert widget.progress.isHidden()


def test_closing_the_dock_stops_the_run(slow, window, docked, qtbot):
    window.add_image(slow)
    docked.run.click()
    qtbot.waitUntil(lambda: docked.result is not None, timeout=PATIENCE)
    labels = docked.result
    window.window.remove_dock_widget(docked)
    assert not docked.running
    record = labels.metadata["msankd"]
    assert record["complete"] is False
    assert len(record["slices"]) < len(slow)


def test_closing_the_viewer_during_a_run_ends_the_worker(make_napari_viewer, model, slow, qtbot):
    viewer = make_napari_viewer()
    widget = SegmentWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Segment")
    widget.model.open(model)
    viewer.add_image(slow)
    widget.run.click()
    qtbot.waitUntil(lambda: widget.result is not None, timeout=PATIENCE)
    labels = widget.result
    viewer.close()
    pool = QThreadPool.globalInstance()
    qtbot.waitUntil(lambda: pool.activeThreadCount() == 0, timeout=PATIENCE)
    assert not labels.data[-1].any()
