"""Pictures as SVG or PNG, numbers as CSV."""

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
        What is saved, for the tooltip.

    Attributes
    ----------
    picture, numbers
        Emitted with the file to write.
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
    """Ask where to save; the suffix of the kind is added where there is none."""
    name, kind = QFileDialog.getSaveFileName(parent, title, "", kinds)
    if not name:
        return None
    file = Path(name)
    return file if file.suffix else file.with_suffix(kind[kind.index("*") + 1 : -1])


def save_and_report(save: Callable[[], None], file: Path) -> str:
    """Save, and say that it is done or why it cannot be."""
    try:
        save()
    except OSError as error:
        return f"✕ {as_failure(error).sentence}"
    return f"✓ {file} is written."


def save_picture(plot: Any, file: Path) -> None:
    """Write a plot, PNG where the file says so and else SVG; whole or not at all."""
    from pyqtgraph.exporters import ImageExporter

    if file.suffix.lower() == ".png":
        exporter = ImageExporter(plot)
        exporter.parameters()["width"] = _PIXELS
        image = exporter.export(toBytes=True)
        write_atomic(file, lambda temporary: image.save(str(temporary), "PNG"))
    else:
        write_text(file, _as_svg(plot))


def save_table(table: QTableWidget, file: Path) -> None:
    """Write all rows of a table as they look, PNG where the file says so and else SVG."""
    former, frame = table.size(), 2 * table.frameWidth()
    height = table.horizontalHeader().height() + table.verticalHeader().length()
    # Back before anything is painted: what is out of sight would be left out.
    table.resize(former.width(), height + frame)
    try:
        if file.suffix.lower() == ".png":
            image = table.grab()
            write_atomic(file, lambda temporary: image.save(str(temporary), "PNG"))
        else:
            size = table.size()
            # PySide6 takes no painter without the offset.
            write_text(file, _painted(size, lambda painter: table.render(painter, QPoint())))
    finally:
        table.resize(former)


def _as_svg(plot: Any) -> str:
    """A plot as Qt writes it: pyqtgraph's own exporter stumbles over Qt's closed paths."""
    from pyqtgraph.exporters.Exporter import Exporter

    exporter = Exporter(plot)
    source, target = exporter.getSourceRect(), exporter.getTargetRect()
    whole = QRectF(0, 0, target.width(), target.height())

    def paint(painter: QPainter) -> None:
        # Points become paths then, not pixels.
        exporter.setExportMode(
            True, {"antialias": True, "resolutionScale": 1.0, "painter": painter}
        )
        try:
            painter.fillRect(whole, plot.getViewWidget().backgroundBrush())
            exporter.getScene().render(painter, whole, source)
        finally:
            exporter.setExportMode(False)

    return _painted(target.size().toSize(), paint)


def _painted(size: QSize, paint: Callable[[QPainter], object]) -> str:
    """What is painted, as SVG."""
    from qtpy.QtSvg import QSvgGenerator

    buffer, svg = QBuffer(), QSvgGenerator()
    svg.setOutputDevice(buffer)
    svg.setSize(size)
    svg.setViewBox(QRectF(0, 0, size.width(), size.height()))
    # That of the screen, else what is kept as a QPicture (axes) is drawn at another scale.
    svg.setResolution(round(QGuiApplication.primaryScreen().logicalDotsPerInch()))
    painter = QPainter(svg)
    try:
        paint(painter)
    finally:
        painter.end()
    return bytes(buffer.data().data()).decode()


def save_rows(file: Path, rows: Iterable[Sequence[Any]]) -> None:
    """Write rows as CSV."""
    head, *others = rows
    write_text(file, csv_table(head, others, digits=None))
