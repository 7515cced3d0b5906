"""Line plots in the colors of the theme; pyqtgraph is imported on first use."""

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
from qtpy.QtWidgets import QFrame, QGraphicsItem, QLabel, QSizePolicy, QVBoxLayout, QWidget

from napari_msankd.theme import LINES, ThemeColors
from napari_msankd.torch_import import gc_paused
from src_training.formatting import format_number

if TYPE_CHECKING:
    from napari_msankd.widgets.downsampling import Values

_ROUND = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 12)
_FEW_DECADES = 3
_LEFT, _BOTTOM, _MARGIN = 52, 40, 7
_ROOM = 1.02
"""Factor on the range of an axis, so that a symbol at its end is not clipped."""


def load_pyqtgraph() -> Iterator[None]:
    """Import pyqtgraph; run it in a worker, because it is slow."""
    hooks = sys.excepthook, threading.excepthook
    with gc_paused():
        importlib.import_module("pyqtgraph")
    # pyqtgraph replaces the excepthooks, through which napari shows errors.
    sys.excepthook, threading.excepthook = hooks
    yield


class Legend(QWidget):
    """Rich text that wraps and changes often.

    A plain label triggers a new layout of the whole window with each change of its text.
    This one has no layout, and changes its height only if the number of lines changes.
    """

    def __init__(self) -> None:
        super().__init__()
        self._label = QLabel(self)
        self._label.setTextFormat(Qt.TextFormat.RichText)
        self._label.setWordWrap(True)
        self._fit()

    def text(self) -> str:
        """The text, as HTML."""
        return self._label.text()

    def setText(self, text: str) -> None:
        """Set the text, as HTML."""
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
    """Named lines over steps, with a legend of names and last values above.

    The axis limits are round numbers that change rarely, so that the plot does not
    flicker while the lines grow. Call `load_pyqtgraph` before creating the first.

    Parameters
    ----------
    across, up
        Labels of the axes, with the unit.
    colours
        Colours of the theme.
    marks
        Whether to draw a symbol at each point; for few points.

    Attributes
    ----------
    ends
        Last step, lowest and highest value of the axes; log10 of the values if the
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
        self.canvas.setMinimumHeight(130)  # so that the axis labels are not cut
        # Its size hint of 480 px would make a scroll area around it scroll.
        self.canvas.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Ignored)
        self.canvas.setFrameShape(QFrame.Shape.NoFrame)
        # Pass wheel events to the dock, so that it scrolls.
        self.canvas.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self._item = self.canvas.getPlotItem()
        self._item.hideButtons()
        self._item.disableAutoRange()
        for side in self._labels:
            axis = self._item.getAxis(side)
            axis.enableAutoSIPrefix(False)
            # Cache the grid, so that it is not redrawn with the lines.
            axis.setCacheMode(QGraphicsItem.CacheMode.DeviceCoordinateCache)
        self._item.getAxis("left").setWidth(_LEFT)
        bottom = self._item.getAxis("bottom")
        bottom.setHeight(_BOTTOM)
        # Without a margin the descenders of the label are clipped.
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
        """Draw lines, and remove former lines that are not among them.

        Parameters
        ----------
        lines
            Name -> steps (N,) and values (N,).
        end
            Last step of the axis.
        log
            Use a logarithmic axis; values that are not positive leave gaps.
        """
        if list(lines) != self.names or log != self._log:
            self._create_lines(list(lines), log)
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
        """Apply the colours of another theme."""
        self.canvas.setBackground(colours.background)
        for side, text in self._labels.items():
            axis = self._item.getAxis(side)
            axis.setPen(colours.faint)
            axis.setTextPen(colours.dim)
            axis.setLabel(text, color=colours.dim)
        self._item.showGrid(x=False, y=True, alpha=0.25)

    def _create_lines(self, names: list[str], log: bool) -> None:
        import pyqtgraph

        self._item.clear()
        self._log, self.ends = log, ()
        self._item.getAxis("left").setLogMode(log)
        self._lines = {}
        for name, colour in zip(names, _line_colours(len(names)), strict=True):
            style = {"pen": pyqtgraph.mkPen(colour, width=1), "antialias": True}
            style["connect"] = "finite"
            if self._marks:
                style |= {"symbol": "o", "symbolSize": 5, "symbolBrush": colour, "symbolPen": None}
            kind = pyqtgraph.PlotDataItem if self._marks else pyqtgraph.PlotCurveItem
            self._lines[name] = kind(**style)
            self._item.addItem(self._lines[name])

    def _set_ends(self, end: float, values: "list[Values]") -> None:
        finite = np.concatenate(values) if values else np.empty(0)
        finite = finite[np.isfinite(finite)]
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
        ends = (end, *(_quarters(low, high) if self._log else _round_ends(low, high)))
        if ends != self.ends:
            self.ends = ends
            self._item.getAxis("left").setTicks([_decades(*ends[1:])] if self._log else None)
            self._item.setRange(xRange=(0, _ROOM * end), yRange=ends[1:], padding=0)

    def _update_legend(self, lines: "Mapping[str, Values]") -> None:
        entries = (
            f'<span style="color:{colour}">━</span>&nbsp;{_nobreak(name)}&nbsp;{_short(values)}'
            for (name, values), colour in zip(lines.items(), _line_colours(len(lines)), strict=True)
        )
        self.legend.setText(" &nbsp; ".join(entries))


def _line_colours(count: int) -> list[str]:
    return [LINES[position % len(LINES)] for position in range(count)]


def _logs(values: "Values") -> "Values":
    return np.log10(values, out=np.full_like(values, np.nan), where=values > 0)


def _nobreak(name: str) -> str:
    """A name as HTML without line breaks."""
    return html.escape(name).replace(" ", "&nbsp;").replace("/", "/&#8288;")


def _short(values: "Values") -> str:
    return format_number(values[-1]) if len(values) else ""


def _quarters(low: float, high: float) -> tuple[float, float]:
    """Limits of a logarithmic axis, log10, rounded to quarters of a decade."""
    return math.floor(low * 4 - 0.1) / 4, math.ceil(high * 4 + 0.1) / 4


def _decades(low: float, high: float) -> list[tuple[float, str]]:
    """Ticks of a logarithmic axis: powers of ten; in a short range also 2 and 5 times them."""
    digits = (1, 2, 5) if high - low < _FEW_DECADES else (1,)
    ticks = (
        (decade + math.log10(digit), f"{digit * 10.0**decade:g}")
        for decade in range(math.floor(low), math.ceil(high) + 1)
        for digit in digits
    )
    return [(position, label) for position, label in ticks if low <= position <= high]


def _round_ends(low: float, high: float) -> tuple[float, float]:
    """Limits of a linear axis; from 0, unless all values are in the upper half of that range."""
    if high <= 0:
        return 0.0, 1.0
    if low > 0.5 * high:
        step = 10.0 ** math.floor(math.log10(high)) / 10
        return math.floor(low / step - 0.1) * step, math.ceil(high / step + 0.1) * step
    scale = 10.0 ** math.floor(math.log10(high))
    return 0.0, next(scale * top for top in _ROUND if scale * top >= _ROOM * high)
