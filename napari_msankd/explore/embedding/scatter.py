"""A scatter plot of semantic vectors with hover, click and lasso."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyqtgraph
from numpy.typing import NDArray
from qtpy.QtCore import QPointF, Qt, Signal
from qtpy.QtGui import QCursor
from qtpy.QtWidgets import QFrame, QToolTip

from napari_msankd.explore.embedding.point_colors import PointColors
from napari_msankd.formatting import literal
from napari_msankd.theme import ThemeColors

_SIZE, _RING = 7, 12
_NEAR = 8.0
_MIN_CORNERS = 3


class LassoBox(pyqtgraph.ViewBox):
    """A pyqtgraph view box with a lasso.

    Attributes
    ----------
    lasso
        Whether dragging with the left button draws a lasso.
    drawn
        Emitted with the corners (M, 2) of a finished lasso, in the plot's units.
    """

    drawn = Signal(object)

    def __init__(self) -> None:
        super().__init__(lockAspect=True, enableMenu=False)
        self.lasso = False
        self._corners: list[Any] = []
        self.line = pyqtgraph.PlotCurveItem()
        self.line.hide()
        self.addItem(self.line, ignoreBounds=True)

    def mouseDragEvent(self, event: Any, axis: Any = None) -> None:
        """Draw the lasso, or move the plot."""
        if not self.lasso or event.button() != Qt.MouseButton.LeftButton:
            super().mouseDragEvent(event, axis)
            return
        event.accept()
        if event.isStart():
            self._corners = [self.mapSceneToView(event.buttonDownScenePos())]
        self._corners.append(self.mapSceneToView(event.scenePos()))
        outline = np.array([(corner.x(), corner.y()) for corner in self._corners])
        self.line.setVisible(not event.isFinish())
        if event.isFinish():
            if len(outline) >= _MIN_CORNERS:
                self.drawn.emit(outline)
        else:
            self.line.setData(*outline.T)


class Scatter(pyqtgraph.PlotWidget):
    """Points with a title; drag moves, the wheel zooms, a double click resets the view.

    Parameters
    ----------
    title
        Title above the points.
    colors
        Colors of the theme.

    Attributes
    ----------
    clicked
        Emitted with the index of a clicked point.
    lassoed
        Emitted with the indices of the points in a lasso.
    points
        Points (N, 2).
    """

    clicked = Signal(int)
    lassoed = Signal(object)

    def __init__(self, title: str, colors: ThemeColors) -> None:
        self.box = LassoBox()
        super().__init__(viewBox=self.box)
        self.title = title
        self.points: NDArray[np.float64] = np.empty((0, 2))
        self._labels: Sequence[str] = ()
        self._order: NDArray[np.intp] = np.empty(0, np.intp)
        self.dots = pyqtgraph.ScatterPlotItem(size=_SIZE, pen=None, pxMode=True)
        self.rings = pyqtgraph.ScatterPlotItem(size=_RING, brush=None, pxMode=True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setToolTip("Hover over a point for its name; click it to open the image; drag to move")
        for item in (self.dots, self.rings):
            self.addItem(item)
        plot = self.getPlotItem()
        plot.hideButtons()
        plot.hideAxis("left")
        plot.hideAxis("bottom")
        self.box.drawn.connect(self._on_lasso)
        self.scene().sigMouseMoved.connect(self._on_moved)
        self.scene().sigMouseClicked.connect(self._on_clicked)
        self.recolor(colors)

    def draw(
        self, points: NDArray[np.float64], labels: Sequence[str], kinds: Sequence[str]
    ) -> None:
        """Draw points (N, 2) and fit the view to them; masks are diamonds."""
        self.points, self._labels = points, labels
        # In random order, so that the last domain does not cover all others.
        self._order = np.random.default_rng(0).permutation(len(points))
        symbols = ["d" if kinds[row] == "mask" else "o" for row in self._order]
        self.dots.setData(pos=points[self._order], symbol=symbols)
        self.ring([])
        self.box.autoRange(padding=0.06)

    def color(self, colors: PointColors) -> None:
        """Color the points."""
        brushes = np.array([_brush(color) for color in colors.palette], object)
        self.dots.setBrush(list(brushes[colors.index[self._order]]))

    def ring(self, chosen: Sequence[int]) -> None:
        """Put a ring around the chosen points."""
        self.rings.setData(pos=self.points[np.asarray(chosen, np.intp)])
        self.rings.setVisible(len(chosen) > 0)

    def recolor(self, colors: ThemeColors) -> None:
        """Apply the colors of another theme."""
        self.setBackground(colors.background)
        self.getPlotItem().setTitle(literal(self.title), color=colors.text, size="9pt")
        pen = pyqtgraph.mkPen(colors.text, width=1.5)
        self.rings.setPen(pen)
        self.box.line.setPen(pen)

    def nearest(self, position: QPointF) -> int | None:
        """Index of the nearest point to a scene position, or None if none is near."""
        if not len(self.points):
            return None
        center = self.box.mapSceneToView(position)
        offsets = (self.points - (center.x(), center.y())) / self.box.viewPixelSize()
        squared = (offsets**2).sum(1)
        row = int(squared.argmin())
        return row if squared[row] <= _NEAR**2 else None

    def _on_moved(self, position: QPointF) -> None:
        row = self.nearest(position)
        if row is None:
            QToolTip.hideText()
        else:
            QToolTip.showText(QCursor.pos(), literal(self._labels[row]), self)

    def _on_clicked(self, event: Any) -> None:
        if event.button() != Qt.MouseButton.LeftButton:
            return
        row = self.nearest(event.scenePos())
        if event.double() and row is None:
            self.box.autoRange(padding=0.06)
        elif row is not None:
            self.clicked.emit(row)

    def _on_lasso(self, outline: NDArray[np.float64]) -> None:
        self.lassoed.emit(points_in_polygon(self.points, outline).tolist())


def _brush(color: str) -> Any:
    shade = pyqtgraph.mkColor(color)
    shade.setAlpha(200)
    return pyqtgraph.mkBrush(shade)


def points_in_polygon(
    points: NDArray[np.float64], outline: NDArray[np.float64]
) -> NDArray[np.intp]:
    """Indices of the points (N, 2) inside a polygon (M, 2)."""
    x, y = points[:, :1], points[:, 1:]
    x0, y0 = outline.T
    x1, y1 = np.roll(outline, -1, axis=0).T
    rise = np.where(y1 == y0, 1.0, y1 - y0)
    crosses = ((y0 > y) != (y1 > y)) & (x < x0 + (y - y0) * (x1 - x0) / rise)
    return np.flatnonzero(crosses.sum(1) % 2)
