"""Plot of the matrix of FSD between domains."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyqtgraph
from qtpy.QtCore import QRectF, Qt, Signal
from qtpy.QtWidgets import QFrame, QGraphicsRectItem

from napari_msankd.formatting import literal
from napari_msankd.theme import LINES, ThemeColors
from src_training.formatting import format_number

if TYPE_CHECKING:
    from src_training.explore.fsd import FSD

_STRONG = 150
_LONGEST = 18
_HEAD = 0.6


class DistanceMatrixView(pyqtgraph.PlotWidget):
    """A matrix with value and interval in each cell; a click chooses two domains.

    Parameters
    ----------
    colors
        Colors of the theme.

    Attributes
    ----------
    clicked
        Emitted with row and column of a clicked cell off the diagonal, also of a
        cell without a value.
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
        """Draw a model's distances between `names`; None means too few vectors."""
        self._model, self._names, self._cells = model, names, cells
        plot, count = self.getPlotItem(), len(names)
        plot.clear()
        title = literal(f"FSD by {model}") if model else None
        plot.setTitle(title, color=self._colors.text, size="9pt")
        values = [fsd.value for row in cells for fsd in row if fsd is not None]
        most = max(values, default=0.0) or 1.0
        for row, cells_of_row in enumerate(cells):
            for column, fsd in enumerate(cells_of_row):
                self._add_cell(row, column, fsd, most)
        ticks = [(row + 0.5, self._row_name(row)) for row in range(count)]
        plot.getAxis("left").setTicks([ticks])
        for column in range(count):
            self._add_text(str(column + 1), column + 0.5, -0.3, 9)
        plot.setRange(QRectF(0, -_HEAD, max(1, count), max(1, count) + _HEAD), padding=0.01)
        self._fit()

    def recolor(self, colors: ThemeColors) -> None:
        """Apply the colors of another theme."""
        self._colors = colors
        self.setBackground(colors.background)
        axis = self.getPlotItem().getAxis("left")
        for set_pen in (axis.setPen, axis.setTickPen):
            set_pen(colors.background)
        axis.setTextPen(colors.text)
        axis.setStyle(tickLength=0)
        self.draw(self._model, self._names, self._cells)

    def _fit(self) -> None:
        """Limit the height to that of the cells, which are square and as wide as the dock."""
        count, view = max(1, len(self._names)), self.getPlotItem().vb
        cells_height = view.width() * (count + _HEAD) / count
        self.setMaximumHeight(round(cells_height + self.height() - view.height()))

    def _add_cell(self, row: int, column: int, fsd: "FSD | None", most: float) -> None:
        plot = self.getPlotItem()
        shade = pyqtgraph.mkColor(LINES[0])
        shade.setAlpha(0 if fsd is None else round(_STRONG * fsd.value / most))
        cell = QGraphicsRectItem(QRectF(column + 0.02, row + 0.02, 0.96, 0.96))
        cell.setBrush(pyqtgraph.mkBrush(shade))
        cell.setPen(pyqtgraph.mkPen(self._colors.faint))
        plot.addItem(cell)
        value = "—" if fsd is None else format_number(fsd.value)
        self._add_text(value, column + 0.5, row + 0.4, 10)
        if fsd is not None and row != column:
            # The interval is symmetric, except that its lower bound is clipped at 0.
            margin = format_number(fsd.high - fsd.value, digits=2)
            self._add_text(f"± {margin}", column + 0.5, row + 0.72, 7)

    def _add_text(self, text: str, x: float, y: float, size: int) -> None:
        item = pyqtgraph.TextItem(text, color=self._colors.text, anchor=(0.5, 0.5))
        font = item.textItem.font()
        font.setPointSize(size)
        item.setFont(font)
        item.setPos(x, y)
        self.getPlotItem().addItem(item)

    def _row_name(self, row: int) -> str:
        """``1 DRIVE``, and the number of vectors on a second line."""
        fsd = self._cells[row][row]
        count = "fewer than 2" if fsd is None else fsd.n_a
        return f"{row + 1} {_short(self._names[row])}\nN {count}"

    def _on_clicked(self, event: Any) -> None:
        point = self.getPlotItem().vb.mapSceneToView(event.scenePos())
        row, column = int(point.y() // 1), int(point.x() // 1)
        inside = 0 <= row < len(self._names) and 0 <= column < len(self._names)
        if event.button() == Qt.MouseButton.LeftButton and inside and row != column:
            self.clicked.emit(row, column)


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"
