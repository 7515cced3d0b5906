"""A scatter of semantic vectors: point at one, click it, draw a lasso."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyqtgraph
from numpy.typing import NDArray
from qtpy.QtCore import QPointF, Qt, Signal
from qtpy.QtGui import QCursor
from qtpy.QtWidgets import QFrame, QToolTip

from napari_msankd.explore.embedding.lasso import LassoBox, inside
from napari_msankd.explore.embedding.point_colors import PointColors
from napari_msankd.theme import ThemeColors

_SIZE, _RING = 7, 12
_NEAR = 8.0


class Scatter(pyqtgraph.PlotWidget):
    """Points (N, 2) with a title; drag moves, the wheel zooms, a double click shows all.

    Parameters
    ----------
    title
        Above the points.
    colours
        Of the theme.

    Attributes
    ----------
    clicked
        Emitted with the index of the point that was clicked.
    lassoed
        Emitted with the indices of the points in a lasso.
    points
        (N, 2) as drawn.
    """

    clicked = Signal(int)
    lassoed = Signal(object)

    def __init__(self, title: str, colours: ThemeColors) -> None:
        self.box = LassoBox()
        super().__init__(viewBox=self.box)
        self.title = title
        self.points: NDArray[np.float64] = np.empty((0, 2))
        self._words: Sequence[str] = ()
        self._order: NDArray[np.intp] = np.empty(0, np.intp)
        self.dots = pyqtgraph.ScatterPlotItem(size=_SIZE, pen=None, pxMode=True)
        self.rings = pyqtgraph.ScatterPlotItem(size=_RING, brush=None, pxMode=True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setToolTip("Point at a dot for its name; click it to open the image; drag to move")
        for item in (self.dots, self.rings):
            self.addItem(item)
        plot = self.getPlotItem()
        plot.hideButtons()
        plot.hideAxis("left")
        plot.hideAxis("bottom")
        self.box.drawn.connect(self._on_lasso)
        self.scene().sigMouseMoved.connect(self._on_moved)
        self.scene().sigMouseClicked.connect(self._on_clicked)
        self.recolour(colours)

    def draw(self, points: NDArray[np.float64], words: Sequence[str], kinds: Sequence[str]) -> None:
        """Show points (N, 2) and show all of them; masks are diamonds."""
        self.points, self._words = points, words
        # In the order of the table, the last domain would lie over all others.
        self._order = np.random.default_rng(0).permutation(len(points))
        symbols = ["d" if kinds[row] == "mask" else "o" for row in self._order]
        self.dots.setData(pos=points[self._order], symbol=symbols)
        self.ring([])
        self.box.autoRange(padding=0.06)

    def colour(self, colouring: PointColors) -> None:
        """Colour the points."""
        brushes = np.array([_brush(colour) for colour in colouring.palette], object)
        self.dots.setBrush(list(brushes[colouring.index[self._order]]))

    def ring(self, chosen: Sequence[int]) -> None:
        """Put a ring around the chosen points."""
        self.rings.setData(pos=self.points[np.asarray(chosen, np.intp)])
        self.rings.setVisible(len(chosen) > 0)

    def recolour(self, colours: ThemeColors) -> None:
        """Take the colours of another theme."""
        self.setBackground(colours.background)
        self.getPlotItem().setTitle(self.title, color=colours.text, size="9pt")
        pen = pyqtgraph.mkPen(colours.text, width=1.5)
        self.rings.setPen(pen)
        self.box.line.setPen(pen)

    def nearest(self, at: QPointF) -> int | None:
        """Index of the point nearest to a place of the scene, if there is one under it."""
        if not len(self.points):
            return None
        place = self.box.mapSceneToView(at)
        wide, high = self.box.viewPixelSize()
        off = (self.points - (place.x(), place.y())) / (wide, high)
        squared = (off**2).sum(1)
        found = int(squared.argmin())
        return found if squared[found] <= _NEAR**2 else None

    def _on_moved(self, at: QPointF) -> None:
        found = self.nearest(at)
        if found is None:
            QToolTip.hideText()
        else:
            QToolTip.showText(QCursor.pos(), self._words[found], self)

    def _on_clicked(self, event: Any) -> None:
        if event.button() != Qt.MouseButton.LeftButton:
            return
        found = self.nearest(event.scenePos())
        if event.double() and found is None:
            self.box.autoRange(padding=0.06)
        elif found is not None:
            self.clicked.emit(found)

    def _on_lasso(self, outline: NDArray[np.float64]) -> None:
        self.lassoed.emit(inside(self.points, outline).tolist())


def _brush(colour: str) -> Any:
    shade = pyqtgraph.mkColor(colour)
    shade.setAlpha(200)
    return pyqtgraph.mkBrush(shade)
