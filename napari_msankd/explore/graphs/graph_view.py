"""Plot of a contrastive graph; nodes are thumbnails, edges show similarity by width and color."""

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
    """One panel of the Graphs page.

    Parameters
    ----------
    title
        Title above the graph.
    colors
        Colors of the theme.

    Attributes
    ----------
    clicked
        Emitted with the index of a clicked node.
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
        """Draw edges with values (m,); `most` > 0 is the absolute value of the thickest edge."""
        self.empty()
        plot, self._drawing = self.getPlotItem(), drawing
        # Draw the strongest edges last, on top.
        for edge in np.argsort(np.abs(values)):
            self.edges.append(
                _line(drawing.places[drawing.edges[edge]], float(values[edge]) / most)
            )
            plot.addItem(self.edges[-1])
        for place, image in zip(drawing.places, drawing.images, strict=True):
            plot.addItem(_thumbnail(place, drawing.side, image))
        margin = 0.6 * drawing.side
        low, high = drawing.places.min(0) - margin, drawing.places.max(0) + margin
        plot.setRange(QRectF(*low, *(high - low)), padding=0)

    def empty(self) -> None:
        """Clear the panel."""
        self._drawing, self.edges = None, []
        self.getPlotItem().clear()

    def recolor(self, colors: ThemeColors) -> None:
        """Apply the colors of another theme."""
        self.setBackground(colors.background)
        self.getPlotItem().setTitle(literal(self.title), color=colors.text, size="9pt")

    def _on_clicked(self, event: Any) -> None:
        if event.button() != Qt.MouseButton.LeftButton or self._drawing is None:
            return
        point = self.getPlotItem().vb.mapSceneToView(event.scenePos())
        node = self._drawing.node_at(point.x(), point.y())
        if node is not None:
            self.clicked.emit(node)


def _line(ends: NDArray[np.float64], strength: float) -> Any:
    color = pyqtgraph.mkColor(ALIKE if strength >= 0 else UNLIKE)
    color.setAlphaF(min(1.0, 0.25 + 0.75 * abs(strength)))
    pen = pyqtgraph.mkPen(color, width=0.5 + _THICK * min(1.0, abs(strength)))
    return pyqtgraph.PlotCurveItem(*ends.T, pen=pen, antialias=True)


def _thumbnail(place: NDArray[np.float64], side: float, image: NDArray[np.float32]) -> Any:
    step = max(1, -(-image.shape[0] // _THUMBNAIL))
    # The y axis of the plot points up, the rows of an image down.
    pixels = np.ascontiguousarray(image[::-step, ::step])
    item = pyqtgraph.ImageItem(pixels, axisOrder="row-major", levels=(0, 1))
    x, y = place - side / 2
    item.setRect(QRectF(x, y, side, side))
    return item
