"""Fixtures for tests of the Segment widget without a window."""

import pytest
from napari.components import ViewerModel

from napari_msankd.segment.widget import SegmentWidget
from tests.gui.conftest import PATIENCE


@pytest.fixture
def viewer():
    return ViewerModel()


@pytest.fixture
def window(make_napari_viewer_proxy):
    """A viewer with a window, for tests of docks, sizes and threads."""
    return make_napari_viewer_proxy()


@pytest.fixture
def widget(viewer, model, qtbot):
    """A Segment widget with the tiny model chosen."""
    made = SegmentWidget(viewer)
    made.model.open(model)
    yield made
    made.end()
    qtbot.waitUntil(lambda: not made.workers, timeout=PATIENCE)


@pytest.fixture
def docked(window, model, qtbot):
    """A Segment widget in the dock of a real window."""
    made = SegmentWidget(window)
    window.window.add_dock_widget(made, name="Segment")
    made.model.open(model)
    yield made
    made.end()
    qtbot.waitUntil(lambda: not made.workers, timeout=PATIENCE)
