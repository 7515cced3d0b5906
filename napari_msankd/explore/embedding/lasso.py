"""A view of a scatter in which a drag moves the plot, or draws a lasso."""

from typing import Any

import numpy as np
import pyqtgraph
from numpy.typing import NDArray
from qtpy.QtCore import Qt, Signal

_FEW = 3


class LassoBox(pyqtgraph.ViewBox):
    """A pyqtgraph view; with `lasso` on, the left button draws.

    Attributes
    ----------
    lasso
        Whether a drag draws.
    drawn
        Emitted with the corners (M, 2) of a closed lasso, in the plot's units.
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
        """Draw, or move the plot as ever."""
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
            if len(outline) >= _FEW:
                self.drawn.emit(outline)
        else:
            self.line.setData(*outline.T)


def inside(points: NDArray[np.float64], outline: NDArray[np.float64]) -> NDArray[np.intp]:
    """Indices of the points (N, 2) that lie in a polygon (M, 2)."""
    x, y = points[:, :1], points[:, 1:]
    x0, y0 = outline.T
    x1, y1 = np.roll(outline, -1, axis=0).T
    rise = np.where(y1 == y0, 1.0, y1 - y0)
    crosses = ((y0 > y) != (y1 > y)) & (x < x0 + (y - y0) * (x1 - x0) / rise)
    return np.flatnonzero(crosses.sum(1) % 2)
