"""The Segment widget on a laptop: it scrolls, and what it shows can be read."""

import numpy as np
import pytest
from qtpy.QtWidgets import QScrollArea, QStyle, QStyleOptionComboBox

from napari_msankd.widgets.slice_selector import RANGE
from tests.gui.conftest import PATIENCE

MM = {"scale": (3, 0.5, 0.5), "units": ("mm", "mm", "mm")}


@pytest.fixture(autouse=True)
def small_window(widget, qtbot):
    """Shown, since napari's style counts from then on; as high as a laptop's."""
    widget.window().resize(1000, 600)
    widget.window().show()
    qtbot.wait(100)


def test_a_small_window_stays_small_with_long_messages(viewer, widget, segmented, qtbot):
    volume = np.random.default_rng(5).random((3, 32, 40), np.float32)
    viewer.add_image(volume, **MM)
    widget.slices.which.setCurrentText(RANGE)
    labels = segmented()
    widget.reference.layer = viewer.add_labels(np.asarray(labels.data).copy(), **MM)
    qtbot.waitUntil(lambda: "Dice" in widget.scores.text(), timeout=PATIENCE)
    qtbot.waitUntil(lambda: "ml" in widget.volumes.text(), timeout=PATIENCE)
    qtbot.wait(100)
    assert widget.window().height() == 600
    area = widget.findChild(QScrollArea)
    bar = area.verticalScrollBar().sizeHint().width()
    assert area.widget().minimumSizeHint().width() + bar <= widget.minimumWidth()


def test_every_way_to_choose_slices_can_be_read(stack, viewer, widget, qtbot):
    viewer.add_image(stack)
    qtbot.wait(100)
    assert widget.width() < 330
    for box in (widget.slices.which, widget.slices.axis):
        option = QStyleOptionComboBox()
        box.initStyleOption(option)
        field = QStyle.SubControl.SC_ComboBoxEditField
        room = box.style().subControlRect(QStyle.ComplexControl.CC_ComboBox, option, field, box)
        for each in range(box.count()):
            words = box.itemText(each)
            assert box.fontMetrics().horizontalAdvance(words) <= room.width(), words


def test_the_slider_has_a_pixel_for_every_threshold(image, viewer, widget, qtbot):
    viewer.add_image(image, rgb=True)
    qtbot.wait(100)
    assert widget.width() < 330
    assert widget.slider.width() >= widget.slider.maximum()
