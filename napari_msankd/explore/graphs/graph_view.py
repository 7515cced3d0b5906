"""A contrastive graph with thumbnails as nodes; width and color of an edge tell similarity."""

from typing import Any

import numpy as np
import pyqtgraph
from numpy.typing import NDArray
from qtpy.QtCore import QRectF, Qt, Signal
from qtpy.QtWidgets import QFrame

from napari_msankd.explore.graphs.layout import Drawing
from napari_msankd.formatting import literal
from napari_msankd.theme import LINES, ThemeColors

ALIKE, UNLIKE = LINES[0], LINES[1]
"""Colors of edges above and below 0."""

_THICK = 5.0
_THUMBNAIL = 96


class GraphView(pyqtgraph.PlotWidget):
    """One panel.

    Parameters
    ----------
    title
        Above it.
    colors
        Of the theme.

    Attributes
    ----------
    clicked
        Emitted with the index of the node whose thumbnail was clicked.
    """

    clicked = Signal(int)

    def __init__(self, title: str, colors: ThemeColors) -> None:
        super().__init__()
        self.title = title
        self.edges: list[Any] = []
        self._drawing: Drawing | None = None
        self.setFrameShape(QFrame.Shape.NoFrame)
        plot = self.getPlotItem()
        plot.hideButtons()
        plot.hideAxis("left")
        plot.hideAxis("bottom")
        plot.setMenuEnabled(False)
        plot.setAspectLocked(True)
        self.setToolTip("Click a view to open it over its image; drag to move, wheel to zoom")
        self.scene().sigMouseClicked.connect(self._on_clicked)
        self.recolor(colors)

    def draw(self, drawing: Drawing, values: NDArray[np.float64], most: float) -> None:
        """Show edges with these values (m,); `most`, above 0, is the size of the thickest."""
        self.empty()
        plot, self._drawing = self.getPlotItem(), drawing
        # The strongest are drawn last, over the others.
        for edge in np.argsort(np.abs(values)):
            self.edges.append(
                _line(drawing.places[drawing.edges[edge]], float(values[edge]) / most)
            )
            plot.addItem(self.edges[-1])
        for place, image in zip(drawing.places, drawing.images, strict=True):
            plot.addItem(_thumbnail(place, drawing.side, image))
        room = 0.6 * drawing.side
        low, high = drawing.places.min(0) - room, drawing.places.max(0) + room
        plot.setRange(QRectF(*low, *(high - low)), padding=0)

    def empty(self) -> None:
        """Show nothing."""
        self._drawing, self.edges = None, []
        self.getPlotItem().clear()

    def recolor(self, colors: ThemeColors) -> None:
        """Take the colors of another theme."""
        self.setBackground(colors.background)
        self.getPlotItem().setTitle(literal(self.title), color=colors.text, size="9pt")

    def _on_clicked(self, event: Any) -> None:
        if event.button() != Qt.MouseButton.LeftButton or self._drawing is None:
            return
        at = self.getPlotItem().vb.mapSceneToView(event.scenePos())
        node = self._drawing.node_at(at.x(), at.y())
        if node is not None:
            self.clicked.emit(node)


def _line(ends: NDArray[np.float64], strength: float) -> Any:
    color = pyqtgraph.mkColor(ALIKE if strength >= 0 else UNLIKE)
    color.setAlphaF(min(1.0, 0.25 + 0.75 * abs(strength)))
    pen = pyqtgraph.mkPen(color, width=0.5 + _THICK * min(1.0, abs(strength)))
    return pyqtgraph.PlotCurveItem(*ends.T, pen=pen, antialias=True)


def _thumbnail(place: NDArray[np.float64], side: float, image: NDArray[np.float32]) -> Any:
    step = max(1, -(-image.shape[0] // _THUMBNAIL))
    # The picture's y axis points up, an image's down.
    shown = image[::-step, ::step]
    item = pyqtgraph.ImageItem(np.ascontiguousarray(shown), axisOrder="row-major", levels=(0, 1))
    x, y = place - side / 2
    item.setRect(QRectF(x, y, side, side))
    return item
