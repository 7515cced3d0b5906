"""A scroll area is as wide as its contents."""

import pytest
from qtpy.QtWidgets import QHBoxLayout, QLabel, QWidget

from napari_msankd.widgets.layout import VerticalScrollArea


@pytest.fixture
def shown(qtbot):
    """A window with a label in a scroll area, and that label."""
    window, inside, label = QWidget(), QWidget(), QLabel("short")
    QHBoxLayout(inside).addWidget(label)
    area = VerticalScrollArea(inside)
    QHBoxLayout(window).addWidget(area)
    qtbot.addWidget(window)
    window.resize(10, 60)
    window.show()
    return window, area, label


def test_contents_are_not_cut_when_they_grow(shown, qtbot):
    _, area, label = shown
    for text in ("short", "much longer than it was before"):
        label.setText(text)
        qtbot.waitUntil(lambda: label.width() >= label.minimumSizeHint().width())
        assert area.viewport().width() >= area.widget().width()


def test_the_widest_contents_can_be_scrolled(shown, qtbot):
    _, area, label = shown
    label.setMinimumWidth(2 * area.WIDEST)
    qtbot.waitUntil(lambda: area.horizontalScrollBar().isVisible())
    assert area.minimumSizeHint().width() == area.WIDEST
