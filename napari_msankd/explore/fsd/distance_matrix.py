"""A matrix of distances between domains: value, interval and counts in each cell."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyqtgraph
from qtpy.QtCore import QRectF, Qt, Signal
from qtpy.QtWidgets import QFrame, QGraphicsRectItem

from napari_msankd.formatting import literal
from napari_msankd.theme import LINES, ThemeColors

if TYPE_CHECKING:
    from src_training.explore.fsd import FSD

_STRONG = 150
_LONGEST = 18
_HEAD = 0.6


class DistanceMatrixView(pyqtgraph.PlotWidget):
    """Cells (row, column); a click on one chooses two domains.

    Parameters
    ----------
    colors
        Of the theme.

    Attributes
    ----------
    clicked
        Emitted with row and column of a cell off the diagonal, also of one
        without a value.
    """

    clicked = Signal(int, int)

    def __init__(self, colors: ThemeColors) -> None:
        super().__init__()
        self._colors = colors
        self._model = ""
        self._names: Sequence[str] = ()
        self._cells: Sequence[Sequence[FSD | None]] = ()
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setToolTip(
            "FSD between the domains of row and column with its 95 % interval; N is the number of "
            "vectors. Click a cell to see which images contribute most"
        )
        plot = self.getPlotItem()
        plot.hideButtons()
        plot.setMenuEnabled(False)
        plot.setMouseEnabled(False, False)
        plot.hideAxis("bottom")
        plot.invertY(True)
        plot.setAspectLocked(True)
        plot.vb.sigResized.connect(self._fit)
        self.scene().sigMouseClicked.connect(self._on_clicked)
        self.recolor(colors)

    def draw(
        self, model: str, names: Sequence[str], cells: "Sequence[Sequence[FSD | None]]"
    ) -> None:
        """Show a model's distances between `names`; None where there are too few vectors."""
        self._model, self._names, self._cells = model, names, cells
        plot, count = self.getPlotItem(), len(names)
        plot.clear()
        title = literal(f"FSD by {model}") if model else None
        plot.setTitle(title, color=self._colors.text, size="9pt")
        known = [found.value for row in cells for found in row if found is not None]
        most = max(known, default=0.0) or 1.0
        for row, found_in_row in enumerate(cells):
            for column, found in enumerate(found_in_row):
                self._add_cell(row, column, found, most)
        rows = [(place + 0.5, self._row_name(place)) for place in range(count)]
        plot.getAxis("left").setTicks([rows])
        for column in range(count):
            self._write(str(column + 1), column + 0.5, -0.3, 9)
        plot.setRange(QRectF(0, -_HEAD, max(1, count), max(1, count) + _HEAD), padding=0.01)
        self._fit()

    def recolor(self, colors: ThemeColors) -> None:
        """Take the colors of another theme."""
        self._colors = colors
        self.setBackground(colors.background)
        axis = self.getPlotItem().getAxis("left")
        for set_pen in (axis.setPen, axis.setTickPen):
            set_pen(colors.background)
        axis.setTextPen(colors.text)
        axis.setStyle(tickLength=0)
        self.draw(self._model, self._names, self._cells)

    def _fit(self) -> None:
        """Be no taller than the cells need: they are square, and as wide as the dock."""
        count, view = max(1, len(self._names)), self.getPlotItem().vb
        cells = view.width() * (count + _HEAD) / count
        self.setMaximumHeight(round(cells + self.height() - view.height()))

    def _add_cell(self, row: int, column: int, found: "FSD | None", most: float) -> None:
        plot = self.getPlotItem()
        shade = pyqtgraph.mkColor(LINES[0])
        shade.setAlpha(0 if found is None else round(_STRONG * found.value / most))
        cell = QGraphicsRectItem(QRectF(column + 0.02, row + 0.02, 0.96, 0.96))
        cell.setBrush(pyqtgraph.mkBrush(shade))
        cell.setPen(pyqtgraph.mkPen(self._colors.faint))
        plot.addItem(cell)
        value = "—" if found is None else f"{found.value:.3g}"
        self._write(value, column + 0.5, row + 0.4, 10)
        if found is not None and row != column:
            # The interval lies evenly about the value, cut off at 0.
            self._write(f"± {found.high - found.value:.2g}", column + 0.5, row + 0.72, 7)

    def _write(self, text: str, x: float, y: float, size: int) -> None:
        words = pyqtgraph.TextItem(text, color=self._colors.text, anchor=(0.5, 0.5))
        font = words.textItem.font()
        font.setPointSize(size)
        words.setFont(font)
        words.setPos(x, y)
        self.getPlotItem().addItem(words)

    def _row_name(self, row: int) -> str:
        """``1 DRIVE``, and below it how many vectors it has."""
        found = self._cells[row][row]
        count = "fewer than 2" if found is None else found.n_a
        return f"{row + 1} {_short(self._names[row])}\nN {count}"

    def _on_clicked(self, event: Any) -> None:
        at = self.getPlotItem().vb.mapSceneToView(event.scenePos())
        row, column = int(at.y() // 1), int(at.x() // 1)
        inside = 0 <= row < len(self._names) and 0 <= column < len(self._names)
        if event.button() == Qt.MouseButton.LeftButton and inside and row != column:
            self.clicked.emit(row, column)


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"
