"""Names of files, layers and models are shown literally, without HTML."""

from types import SimpleNamespace

import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel

from napari_msankd.explore.embedding.point_colors import point_colors
from napari_msankd.formatting import literal

NAMES = [
    "a[/b]",
    "<b>x</b>",
    "<img src=x>",
    "a&lt;b&gt;",
    "a&b",
    'a"b',
    "=1+1",
    "a<br>b",
    "é" * 300,
]


@pytest.mark.parametrize("name", NAMES)
def test_qt_takes_no_name_for_html(name, qtbot):
    shown, plain = QLabel(literal(name)), QLabel()
    qtbot.addWidget(shown)
    qtbot.addWidget(plain)
    plain.setTextFormat(Qt.TextFormat.PlainText)
    plain.setText(literal(name))
    assert shown.sizeHint() == plain.sizeHint()
    assert literal(name).replace("\u2060", "") == name


def test_the_sizes_tell_html_from_text(qtbot):
    shown, plain = QLabel("<b>x</b>"), QLabel()
    qtbot.addWidget(shown)
    qtbot.addWidget(plain)
    plain.setTextFormat(Qt.TextFormat.PlainText)
    plain.setText("<b>x</b>")
    assert shown.sizeHint() != plain.sizeHint()


def test_the_legend_of_domains_is_escaped():
    table = SimpleNamespace(kinds=("image",), domains=["<b>x</b>"])
    assert "&lt;b&gt;x&lt;/b&gt;" in point_colors(table, "domain").legend
