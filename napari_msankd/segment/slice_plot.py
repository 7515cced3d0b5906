"""A small plot of the expected Dice by slice; a click moves the viewer to the slice."""

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QFrame, QVBoxLayout, QWidget

from napari_msankd.planes import Index
from napari_msankd.segment.state import SliceCurve
from napari_msankd.theme import LINES, theme_colors
from napari_msankd.widgets.line_plot import load_pyqtgraph
from napari_msankd.widgets.wrapping_label import WrappingLabel
from napari_msankd.workers import Worker

if TYPE_CHECKING:
    from napari.components import ViewerModel

_HEIGHT = 120
_EXPECTED, _REAL = LINES[0], LINES[1]
_BAND = "#2b83d640"
_STALE = 0.35
_RANGE = (0, 1.05)
_TICKS = 5
"""Number of slices named below the plot, about."""
"""Range of the Dice axis, with space for a line at 1."""


class SlicePlot(QWidget):
    """Expected Dice with its interval by slice, and the real Dice if it is known.

    Imports pyqtgraph, which is slow, in a worker when there is something to plot.

    Parameters
    ----------
    viewer
        The viewer whose theme sets the colors.

    Attributes
    ----------
    canvas
        The pyqtgraph widget; None until pyqtgraph is imported.
    chosen
        Emitted with the index in the image of the clicked slice.
    """

    chosen = Signal(object)

    def __init__(self, viewer: "ViewerModel") -> None:
        super().__init__()
        self._viewer = viewer
        self._loading: Worker | None = None
        self._drawn: tuple[SliceCurve | None, Index, bool] = None, (), False
        self._curve: SliceCurve | None = None
        self.canvas: Any = None
        self.legend = WrappingLabel()
        self.legend.setTextFormat(Qt.TextFormat.RichText)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self.legend)
        self.hide()

    def draw(self, curve: SliceCurve | None, shown: Index, stale: bool = False) -> None:
        """Show the slices of a result.

        Parameters
        ----------
        curve
            Values to draw; None hides the plot.
        shown
            The displayed slice, which is marked.
        stale
            Whether the labels have changed since; a stale plot is drawn faintly.
        """
        self._drawn = curve, shown, stale
        self.setVisible(curve is not None)
        if curve is None:
            return
        if self.canvas is None:
            self._load()
            return
        if curve != self._curve:
            self._set(curve)
        self._curve = curve
        self._item.setOpacity(_STALE if stale else 1)
        self._mark.setVisible(shown in curve.indices)
        if shown in curve.indices:
            self._mark.setValue(curve.at[curve.indices.index(shown)])

    def recolor(self, _event: object = None) -> None:
        """Apply the colors of the theme."""
        if self.canvas is None:
            return
        colors = theme_colors(self._viewer)
        self.canvas.setBackground(colors.background)
        for side in ("bottom", "left"):
            axis = self._item.getAxis(side)
            axis.enableAutoSIPrefix(False)
            axis.setPen(colors.faint)
            axis.setTextPen(colors.dim)
        self._item.showGrid(x=False, y=True, alpha=0.25)
        self._mark.setPen(colors.dim, width=1)

    def _load(self) -> None:
        if self._loading is None:
            self._loading = Worker(load_pyqtgraph(), self)  # type: ignore[arg-type]
            self._loading.yielded.connect(lambda _: self._build())
            self._loading.start()

    def _build(self) -> None:
        import pyqtgraph

        self.canvas = pyqtgraph.PlotWidget()
        self.canvas.setFrameShape(QFrame.Shape.NoFrame)
        self.canvas.setFixedHeight(_HEIGHT)
        self.canvas.setToolTip("Expected Dice of each slice. Click to go to the slice")
        self._item = self.canvas.getPlotItem()
        self._item.hideButtons()
        self._item.setMenuEnabled(False)
        self._item.setMouseEnabled(False, False)
        self._low, self._high = (pyqtgraph.PlotCurveItem(pen=None) for _ in range(2))
        band = pyqtgraph.FillBetweenItem(self._low, self._high, brush=_BAND)
        self._expected, self._dice = _line(_EXPECTED), _line(_REAL)
        self._mark = pyqtgraph.InfiniteLine(angle=90, movable=False)
        for part in (self._low, self._high, band, self._expected, self._dice, self._mark):
            self._item.addItem(part)
        self.canvas.scene().sigMouseClicked.connect(self._on_clicked)
        self.layout().addWidget(self.canvas)
        self.recolor()
        self.draw(*self._drawn)

    def _set(self, curve: SliceCurve) -> None:
        at = np.asarray(curve.at, float)
        for item, values in (
            (self._low, curve.low),
            (self._high, curve.high),
            (self._expected, curve.expected),
            (self._dice, curve.dice),
        ):
            # pyqtgraph warns about lines that are all NaN.
            finite = np.isfinite(values)
            item.setData(at[finite], np.asarray(values)[finite])
        self._item.setRange(xRange=(at[0], at[-1]), yRange=_RANGE, padding=0.02)
        between = max(1, round((at[-1] - at[0]) / _TICKS))  # there is no slice 10.5
        self._item.getAxis("bottom").setTickSpacing(between, between)
        names = [(_EXPECTED, "expected Dice")]
        if np.isfinite(curve.dice).any():
            names.append((_REAL, "Dice"))
        marks = (f'<span style="color:{color}">━</span>&nbsp;{name}' for color, name in names)
        numbers = "slice" if len(curve.indices[0]) == 1 else "slice, counted through all axes"
        self.legend.setText(f"{' &nbsp;'.join(marks)} by {numbers}")

    def _on_clicked(self, event: Any) -> None:
        if self._curve is not None and event.button() == Qt.MouseButton.LeftButton:
            point = self._item.getViewBox().mapSceneToView(event.scenePos())
            self.chosen.emit(self._curve.nearest(point.x()))


def _line(color: str) -> Any:
    import pyqtgraph

    marks = {"symbol": "o", "symbolSize": 3, "symbolBrush": color, "symbolPen": None}
    pen = pyqtgraph.mkPen(color, width=1)
    return pyqtgraph.PlotDataItem(pen=pen, connect="finite", antialias=True, **marks)
