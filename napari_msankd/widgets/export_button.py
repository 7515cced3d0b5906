"""Export of plots and tables: pictures as SVG or PNG, numbers as CSV."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from qtpy.QtCore import QBuffer, QPoint, QRectF, QSize, Signal
from qtpy.QtGui import QGuiApplication, QPainter
from qtpy.QtWidgets import QFileDialog, QMenu, QPushButton, QTableWidget, QWidget

from napari_msankd.workers import as_failure
from src_training.io.atomic import write_atomic, write_text
from src_training.io.tables import csv_table

_PIXELS = 1600


class ExportButton(QPushButton):
    """A button with a menu: Picture…, Numbers….

    Parameters
    ----------
    tip
        Tooltip.

    Attributes
    ----------
    picture, numbers
        Emitted with the path of the file to write.
    """

    picture = Signal(object)
    numbers = Signal(object)

    def __init__(self, tip: str) -> None:
        super().__init__("&Save")
        self.setToolTip(tip)
        menu = QMenu(self)
        menu.addAction("Picture (SVG, PNG)…", self._on_picture)
        menu.addAction("Numbers (CSV)…", self._on_numbers)
        self.setMenu(menu)

    def _on_picture(self) -> None:
        file = ask_file(self, "Save the picture", "SVG (*.svg);;PNG (*.png)")
        if file is not None:
            self.picture.emit(file)

    def _on_numbers(self) -> None:
        file = ask_file(self, "Save the numbers", "CSV (*.csv)")
        if file is not None:
            self.numbers.emit(file)


def ask_file(parent: QWidget, title: str, kinds: str) -> Path | None:
    """Ask where to save; add the suffix of the file type if there is none."""
    name, kind = QFileDialog.getSaveFileName(parent, title, "", kinds)
    if not name:
        return None
    file = Path(name)
    return file if file.suffix else file.with_suffix(kind[kind.index("*") + 1 : -1])


def save_and_report(save: Callable[[], None], file: Path) -> str:
    """Save, and return a status text of success or failure."""
    try:
        save()
    except OSError as error:
        return f"✕ {as_failure(error).sentence}"
    return f"✓ {file} is written."


def save_picture(plot: Any, file: Path) -> None:
    """Write a plot atomically, as PNG or SVG by the suffix."""
    from pyqtgraph.exporters import ImageExporter

    if file.suffix.lower() == ".png":
        exporter = ImageExporter(plot)
        exporter.parameters()["width"] = _PIXELS
        image = exporter.export(toBytes=True)
        write_atomic(file, lambda temporary: image.save(str(temporary), "PNG"))
    else:
        write_text(file, _as_svg(plot))


def save_table(table: QTableWidget, file: Path) -> None:
    """Write a picture of all rows of a table, as PNG or SVG by the suffix."""
    former, frame = table.size(), 2 * table.frameWidth()
    height = table.horizontalHeader().height() + table.verticalHeader().length()
    # Only visible rows are painted, so enlarge the table; the window does not repaint meanwhile.
    table.resize(former.width(), height + frame)
    try:
        if file.suffix.lower() == ".png":
            image = table.grab()
            write_atomic(file, lambda temporary: image.save(str(temporary), "PNG"))
        else:
            size = table.size()
            # PySide6 requires the offset.
            write_text(file, _render_svg(size, lambda painter: table.render(painter, QPoint())))
    finally:
        table.resize(former)


def _as_svg(plot: Any) -> str:
    """SVG of a plot by Qt; pyqtgraph's own exporter fails on closed paths of Qt."""
    from pyqtgraph.exporters.Exporter import Exporter

    exporter = Exporter(plot)
    source, target = exporter.getSourceRect(), exporter.getTargetRect()
    area = QRectF(0, 0, target.width(), target.height())

    def paint(painter: QPainter) -> None:
        # The export mode draws points as paths, not as pixmaps.
        exporter.setExportMode(
            True, {"antialias": True, "resolutionScale": 1.0, "painter": painter}
        )
        try:
            painter.fillRect(area, plot.getViewWidget().backgroundBrush())
            exporter.getScene().render(painter, area, source)
        finally:
            exporter.setExportMode(False)

    return _render_svg(target.size().toSize(), paint)


def _render_svg(size: QSize, paint: Callable[[QPainter], object]) -> str:
    """SVG of whatever `paint` draws."""
    from qtpy.QtSvg import QSvgGenerator

    buffer, svg = QBuffer(), QSvgGenerator()
    svg.setOutputDevice(buffer)
    svg.setSize(size)
    svg.setViewBox(QRectF(0, 0, size.width(), size.height()))
    # Use the screen's resolution, at which pyqtgraph caches the axes as QPictures.
    svg.setResolution(round(QGuiApplication.primaryScreen().logicalDotsPerInch()))
    painter = QPainter(svg)
    try:
        paint(painter)
    finally:
        painter.end()
    return bytes(buffer.data().data()).decode()


def save_rows(file: Path, rows: Iterable[Sequence[Any]]) -> None:
    """Write rows as CSV."""
    header, *body = rows
    write_text(file, csv_table(header, body, digits=None))
