"""What stands beside a result: whose it is, and that it goes with it."""

from threading import Event

import numpy as np
import pytest
from qtpy.QtCore import QThreadPool

from napari_msankd.segment import widget as segment

from .conftest import PATIENCE

MM = {"scale": (3, 0.5, 0.5), "units": ("mm", "mm", "mm")}


@pytest.fixture
def volume():
    return np.random.default_rng(5).random((6, 32, 40), np.float32)


@pytest.fixture
def held(monkeypatch, qtbot):
    """Hold back what a worker counts; gives what lets it go and hears it out."""
    going = Event()

    def hold(name, figure):
        def steps(_):
            going.wait(PATIENCE / 1000)
            yield figure

        monkeypatch.setattr(segment, name, steps)

    def let_go():
        going.set()
        QThreadPool.globalInstance().waitForDone()
        qtbot.wait(200)

    hold.let_go = let_go
    yield hold
    going.set()


def test_millilitres_that_are_being_counted_go_with_their_layer(
    volume, viewer, widget, segmented, held, qtbot
):
    held("measure", {"vessel": 49.7})
    viewer.add_image(volume, **MM)
    labels = segmented()
    qtbot.waitUntil(lambda: "measure" in widget.works, timeout=PATIENCE)
    viewer.layers.remove(labels)
    held.let_go()
    assert widget.result is None and widget.volumes.text() == ""


def test_scores_that_are_being_counted_go_with_their_reference(
    image, viewer, widget, segmented, held, qtbot
):
    held("compare", "Dice 0.5")
    viewer.add_image(image, rgb=True)
    labels = segmented()
    widget.reference.layer = viewer.add_labels(np.asarray(labels.data).copy())
    qtbot.waitUntil(lambda: "score" in widget.works, timeout=PATIENCE)
    widget.reference.layer = None
    qtbot.wait(300)
    held.let_go()
    assert widget.scores.text() == ""


def test_figures_that_went_leave_no_empty_strip(volume, viewer, widget, segmented, qtbot):
    viewer.add_image(volume, **MM)
    labels = segmented()
    qtbot.waitUntil(lambda: "ml" in widget.volumes.text(), timeout=PATIENCE)
    assert not widget.volumes.isHidden()
    viewer.layers.remove(labels)
    assert widget.volumes.isHidden()
