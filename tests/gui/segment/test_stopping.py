"""A run of the Segment widget that does not come to its end, or has not come to it yet."""

import re

import numpy as np
import pytest
from qtpy.QtCore import QThreadPool

from napari_msankd.segment.widget import SegmentWidget
from tests.gui.conftest import PATIENCE

# As in test_segment_widget.py.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Conversion from CIE-LAB:UserWarning"),
]


@pytest.fixture
def slow():
    """Planes that can be counted: many of them, so that a run can be caught under way."""
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
