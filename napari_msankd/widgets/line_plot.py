"""Line plots that follow the theme; pyqtgraph is loaded when the first is needed."""

import html
import importlib
import math
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtGui import QResizeEvent
from qtpy.QtWidgets import QFrame, QGraphicsItem, QLabel, QVBoxLayout, QWidget

from napari_msankd.theme import LINES, ThemeColors
from napari_msankd.torch_import import gc_paused

if TYPE_CHECKING:
    from napari_msankd.widgets.downsampling import Values

_ROUND = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 12)
_FEW_DECADES = 3
_LEFT, _BOTTOM, _MARGIN = 52, 40, 7
_ROOM = 1.02
"""So that a mark on the last step is whole."""


def load_pyqtgraph() -> Iterator[None]:
    """Import pyqtgraph; for a worker, it takes long."""
    hooks = sys.excepthook, threading.excepthook
    with gc_paused():
        importlib.import_module("pyqtgraph")
    # It puts itself between napari and the errors that napari shows.
    sys.excepthook, threading.excepthook = hooks
    yield


class Legend(QWidget):
    """Rich text that wraps, and that changes often.

    A label asks for a new layout of the whole window whenever its words change;
    in here it asks in vain, until it needs more lines or fewer.
    """

    def __init__(self) -> None:
        super().__init__()
        self._label = QLabel(self)
        self._label.setTextFormat(Qt.TextFormat.RichText)
        self._label.setWordWrap(True)
        self._fit()

    def text(self) -> str:
        """What it says, as HTML."""
        return self._label.text()

    def setText(self, text: str) -> None:
        """Say something else."""
        self._label.setText(text)
        self._fit()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Wrap at the new width."""
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        self._label.resize(self.width(), self._label.heightForWidth(self.width()))
        self.setFixedHeight(self._label.height())


class LinePlot(QWidget):
    """Named lines over steps, with their names and last values above.

    The ends of the axes move in rare, round steps, so that nothing flickers
    while the lines grow. `load_pyqtgraph` comes before the first.

    Parameters
    ----------
    across, up
        What the axes show, with the unit.
    colours
        Of the theme.
    marks
        Whether each point has a mark; for few points.

    Attributes
    ----------
    ends
        Last step, lowest and highest value of the axes; logarithms where the
        axis is logarithmic.
    """

    def __init__(self, across: str, up: str, colours: ThemeColors, marks: bool = False) -> None:
        super().__init__()
        import pyqtgraph

        self._labels = {"bottom": across, "left": up}
        self._marks = marks
        self._lines: dict[str, Any] = {}
        self.ends: tuple[float, ...] = ()
        self._log = False
        self.legend = Legend()
        self.canvas = pyqtgraph.PlotWidget()
        self.canvas.setFrameShape(QFrame.Shape.NoFrame)
        # The wheel scrolls the dock that the plot lies in.
        self.canvas.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self._item = self.canvas.getPlotItem()
        self._item.hideButtons()
        self._item.disableAutoRange()
        for side in self._labels:
            axis = self._item.getAxis(side)
            axis.enableAutoSIPrefix(False)
            # Its grid lies under the lines: it need not be drawn anew with them.
            axis.setCacheMode(QGraphicsItem.CacheMode.DeviceCoordinateCache)
        self._item.getAxis("left").setWidth(_LEFT)
        bottom = self._item.getAxis("bottom")
        bottom.setHeight(_BOTTOM)
        # Else the tails of its letters are cut off.
        bottom.label.document().setDocumentMargin(_MARGIN)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self.legend)
        layout.addWidget(self.canvas, 1)
        self.recolour(colours)

    @property
    def names(self) -> list[str]:
        """Names of the lines, in the order of their colours."""
        return list(self._lines)

    @property
    def log(self) -> bool:
        """Whether the upward axis is logarithmic."""
        return self._log

    def draw(
        self, lines: Mapping[str, "tuple[Values, Values]"], end: float, log: bool = False
    ) -> None:
        """Show lines, each as its steps (N,) and values (N,).

        Parameters
        ----------
        lines
            By name. A name that is gone takes its line with it.
        end
            Last step of the axis.
        log
            Draw the logarithms; values that are not positive leave gaps.
        """
        if list(lines) != self.names or log != self._log:
            self._renew(list(lines), log)
        shown = (
            {name: (steps, _logs(values)) for name, (steps, values) in lines.items()}
            if log
            else lines
        )
        for name, (steps, values) in shown.items():
            self._lines[name].setData(steps, values)
        self._set_ends(end, [values for _, values in shown.values()])
        self._update_legend({name: values for name, (_, values) in lines.items()})

    def recolour(self, colours: ThemeColors) -> None:
        """Take the colours of another theme."""
        self.canvas.setBackground(colours.background)
        for side, text in self._labels.items():
            axis = self._item.getAxis(side)
            axis.setPen(colours.faint)
            axis.setTextPen(colours.dim)
            axis.setLabel(text, color=colours.dim)
        self._item.showGrid(x=False, y=True, alpha=0.25)

    def _renew(self, names: list[str], log: bool) -> None:
        import pyqtgraph

        self._item.clear()
        self._log, self.ends = log, ()
        self._item.getAxis("left").setLogMode(log)
        self._lines = {}
        for name, colour in zip(names, _cycled(len(names)), strict=True):
            look = {"pen": pyqtgraph.mkPen(colour, width=1), "antialias": True}
            look["connect"] = "finite"
            if self._marks:
                look |= {"symbol": "o", "symbolSize": 5, "symbolBrush": colour, "symbolPen": None}
            kind = pyqtgraph.PlotDataItem if self._marks else pyqtgraph.PlotCurveItem
            self._lines[name] = kind(**look)
            self._item.addItem(self._lines[name])

    def _set_ends(self, end: float, values: "list[Values]") -> None:
        known = np.concatenate(values) if values else np.empty(0)
        known = known[np.isfinite(known)]
        low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
        ends = (end, *(_quarters(low, high) if self._log else _round_ends(low, high)))
        if ends != self.ends:
            self.ends = ends
            self._item.getAxis("left").setTicks([_decades(*ends[1:])] if self._log else None)
            self._item.setRange(xRange=(0, _ROOM * end), yRange=ends[1:], padding=0)

    def _update_legend(self, lines: "Mapping[str, Values]") -> None:
        entries = (
            f'<span style="color:{colour}">━</span>&nbsp;{_unbroken(name)}&nbsp;{_short(values)}'
            for (name, values), colour in zip(lines.items(), _cycled(len(lines)), strict=True)
        )
        self.legend.setText(" &nbsp; ".join(entries))


def _cycled(count: int) -> list[str]:
    return [LINES[position % len(LINES)] for position in range(count)]


def _logs(values: "Values") -> "Values":
    return np.log10(values, out=np.full_like(values, np.nan), where=values > 0)


def _unbroken(name: str) -> str:
    """A name in HTML that stays in one line."""
    return html.escape(name).replace(" ", "&nbsp;").replace("/", "/&#8288;")


def _short(values: "Values") -> str:
    return f"{values[-1]:.3g}" if len(values) else ""


def _quarters(low: float, high: float) -> tuple[float, float]:
    """Ends of an axis of logarithms, on quarters of a decade."""
    return math.floor(low * 4 - 0.1) / 4, math.ceil(high * 4 + 0.1) / 4


def _decades(low: float, high: float) -> list[tuple[float, str]]:
    """Marks of an axis of logarithms: powers of ten, and where these are few 2 and 5 times them."""
    digits = (1, 2, 5) if high - low < _FEW_DECADES else (1,)
    marks = (
        (decade + math.log10(digit), f"{digit * 10.0**decade:g}")
        for decade in range(math.floor(low), math.ceil(high) + 1)
        for digit in digits
    )
    return [(place, words) for place, words in marks if low <= place <= high]


def _round_ends(low: float, high: float) -> tuple[float, float]:
    """Ends of an axis: from 0, or from near below where all values lie close together."""
    if high <= 0:
        return 0.0, 1.0
    if low > 0.5 * high:
        step = 10.0 ** math.floor(math.log10(high)) / 10
        return math.floor(low / step - 0.1) * step, math.ceil(high / step + 0.1) * step
    scale = 10.0 ** math.floor(math.log10(high))
    return 0.0, next(scale * top for top in _ROUND if scale * top >= _ROOM * high)
