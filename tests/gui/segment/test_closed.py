"""A closed Segment dock is disconnected and leaks no memory."""

import gc
import weakref

import numpy as np

from napari_msankd.segment import widget as segment
from napari_msankd.segment.widget import SegmentWidget


def close_three(window, model, qtbot):
    """Open and close three docks; returns weak references to their widgets and states."""
    references = []
    for _ in range(3):
        widget = SegmentWidget(window)
        window.window.add_dock_widget(widget, name="Segment")
        widget.model.open(model)
        qtbot.waitUntil(lambda widget=widget: widget.state.info is not None or not widget.workers)
        references += [weakref.ref(widget), weakref.ref(widget.state)]
        window.window.remove_dock_widget(widget)
        qtbot.waitUntil(lambda widget=widget: not widget.workers)
    return references


def test_closed_docks_check_no_image(window, model, image, qtbot, monkeypatch):
    close_three(window, model, qtbot)
    checked = []
    monkeypatch.setattr(segment, "check", checked.append)
    monkeypatch.setattr(segment, "device_name", checked.append)
    window.add_image(image, rgb=True)
    window.dims.ndisplay = 3
    qtbot.wait(400)
    assert not checked


def test_closed_docks_are_collected(window, model, qtbot):
    references = close_three(window, model, qtbot)
    frozen = gc.get_freeze_count()

    def gone():
        gc.collect()
        return all(each() is None for each in references)

    qtbot.waitUntil(gone)
    assert gc.get_freeze_count() == frozen


def test_a_closed_dock_shows_the_image_that_it_hid(window, docked, qtbot):
    image = window.add_image(np.random.rand(3, 8, 9))
    docked.state.solid = True
    docked.segment()
    qtbot.waitUntil(lambda: not docked.running)
    docked.solid.click()
    assert not image.visible
    window.window.remove_dock_widget(docked)
    assert image.visible
