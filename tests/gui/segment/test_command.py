"""The menu command that segments the current slice of the selected layer."""

import numpy as np
import pytest
from napari.utils.notifications import notification_manager

from napari_msankd import commands
from napari_msankd.commands import segment_current_slice
from tests.gui.conftest import PATIENCE

pytestmark = pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")


@pytest.fixture
def widget(widget, monkeypatch):
    """The open widget that the command reuses."""
    monkeypatch.setattr(commands, "open_widget", lambda _viewer, _name: widget)
    return widget


@pytest.fixture
def warnings(monkeypatch):
    shown = []
    monkeypatch.setattr(notification_manager, "dispatch", lambda each: shown.append(each.message))
    return shown


@pytest.fixture
def volume():
    return np.random.default_rng(5).random((6, 32, 40), np.float32)


def test_it_segments_the_slice_in_view_of_the_selected_layer(volume, viewer, widget, qtbot):
    one = viewer.add_image(volume, name="one")
    two = viewer.add_image(volume[:, ::2], name="two")
    viewer.dims.set_current_step(0, 3)
    viewer.layers.selection.active = one
    widget.image.layer = two
    segment_current_slice(viewer)
    qtbot.waitUntil(lambda: not widget.running, timeout=PATIENCE)
    assert widget.result.name.startswith("one")
    assert widget.result.metadata["msankd"]["slices"] == [3]


def test_in_a_rolled_view_it_segments_what_is_shown(volume, viewer, widget, qtbot):
    viewer.add_image(volume)
    viewer.dims.order = (1, 0, 2)
    viewer.dims.set_current_step(1, 20)
    segment_current_slice(viewer)
    qtbot.waitUntil(lambda: not widget.running, timeout=PATIENCE)
    assert widget.result.data.shape == (6, 1, 40)
    assert widget.result.metadata["msankd"]["slices"] == [20]


def test_with_nothing_suitable_selected_it_says_so(volume, viewer, widget, warnings):
    viewer.add_image(volume)
    labels = viewer.add_labels(np.zeros((6, 32, 40), int), name="expert")
    segment_current_slice(viewer)
    viewer.layers.selection.clear()
    segment_current_slice(viewer)
    assert not widget.running and list(viewer.layers)[-1] is labels
    assert warnings[0].startswith("'expert' is selected; expected one image layer")
    assert warnings[1].startswith("No layer is selected")


def test_during_a_run_it_says_so(viewer, widget, warnings, qtbot):
    viewer.add_image(np.random.default_rng(3).random((150, 24, 24), np.float32))
    widget.run.click()
    segment_current_slice(viewer)
    assert warnings == ["A segmentation is running; stop it first, or wait for its end."]
    widget.stop.click()
    qtbot.waitUntil(lambda: not widget.running, timeout=PATIENCE)
