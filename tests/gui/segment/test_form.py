"""The Segment widget on a small screen scrolls and is legible."""

import numpy as np
import pytest
from qtpy.QtWidgets import (
    QAbstractButton,
    QComboBox,
    QScrollArea,
    QSlider,
    QStyle,
    QStyleOptionComboBox,
)
from superqt import QLabeledDoubleSlider

from tests.gui.conftest import PATIENCE

MM = {"scale": (3, 0.5, 0.5), "units": ("mm", "mm", "mm")}


@pytest.fixture
def viewer(window):
    return window


@pytest.fixture
def widget(docked, qtbot):
    """A widget in a shown window, so that napari's style applies, with a laptop's height."""
    docked.window().resize(1000, 600)
    docked.window().show()
    qtbot.wait(100)
    return docked


def test_a_small_window_stays_small_with_long_messages(viewer, widget, segmented, qtbot):
    volume = np.random.default_rng(5).random((3, 32, 40), np.float32)
    viewer.add_image(volume, **MM)
    widget.slices.which.setCurrentText("range of slices")
    labels = segmented()
    widget.reference.layer = viewer.add_labels(np.asarray(labels.data).copy(), **MM)
    qtbot.waitUntil(lambda: "Dice" in widget.scores.text(), timeout=PATIENCE)
    qtbot.waitUntil(lambda: "ml" in widget.volumes.text(), timeout=PATIENCE)
    qtbot.wait(100)
    assert widget.window().height() == 600
    area = widget.findChild(QScrollArea)
    assert area.widget().width() <= area.viewport().width() and widget.width() < 330


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
    (slider,) = widget.threshold.findChildren(QSlider)
    assert slider.width() >= 98


def test_it_fits_a_laptop_and_every_control_explains_itself(widget):
    assert widget.sizeHint().height() <= 600
    for kind in (QAbstractButton, QSlider, QComboBox):
        for control in widget.findChildren(kind):
            inside_slider = isinstance(control.parent(), QLabeledDoubleSlider)
            assert control.toolTip() or inside_slider, control


def test_both_themes_have_a_run_button(viewer, widget):
    viewer.theme = "light"
    light = widget.run.styleSheet()
    viewer.theme = "dark"
    assert light != widget.run.styleSheet()
