"""The Vectors page: scatter plots of the semantic vectors of all models, in one projection."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)
from superqt.utils import signals_blocked

from napari_msankd.explore.embedding.point_colors import COLUMNS, point_colors
from napari_msankd.explore.embedding.scatter import Scatter
from napari_msankd.explore.state import ExploreState, Sample, Selection, samples_of
from napari_msankd.theme import theme_colors
from napari_msankd.widgets.export_button import (
    ExportButton,
    ask_file,
    save_and_report,
    save_picture,
    save_rows,
)
from napari_msankd.widgets.layout import buddy_label
from napari_msankd.widgets.wrapping_label import WrappingLabel
from napari_msankd.workers import Failure, WorkerGroup

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_msankd.explore.extraction import Extraction
    from src_training.explore.embedding_table import EmbeddingTable
    from src_training.explore.projection import Projection

METHODS = {"PCA": "pca", "t-SNE": "tsne", "UMAP": "umap"}
_CORNERS = "In the CSV, top and left are pixels of the preprocessed image"
_NO_UMAP = "UMAP is not installed: pip install 'napari-msankd[umap]'"


class EmbeddingPage(QWidget):
    """A scatter plot for each model; the selection is marked in all of them.

    Parameters
    ----------
    viewer
        The viewer whose theme sets the colors.
    state
        State of the Explore widget.

    Attributes
    ----------
    scatters
        Model -> its plot.
    """

    def __init__(self, viewer: "ViewerModel", state: ExploreState) -> None:
        super().__init__()
        self._viewer, self._state = viewer, state
        self._samples: dict[str, list[Sample]] = {}
        self._projection: Projection | None = None
        self._drawn_method = 0
        self.scatters: dict[str, Scatter] = {}
        self.workers = WorkerGroup(self, self._show_failure)
        self._build()
        self._connect()

    def project(self) -> None:
        """Compute the projection; cancels one that is being computed."""
        if self._state.extraction is None:
            return
        values = {name: table.values for name, table in self._state.extraction.tables.items()}
        method = METHODS[self.method.currentText()]
        self.status.setText(f"Computing {self.method.currentText()}…")
        steps = _project(values, method)
        self.workers.start("project", steps, self._on_projected, self._on_failed)
        self._enable()

    def stop(self) -> None:
        """Cancel the projection; the plots keep the former one."""
        self._restore_method()
        self.status.setText("Stopped.")

    def end(self) -> None:
        """Cancel workers and disconnect from the viewer."""
        self.workers.cancel_all()
        self._viewer.events.theme.disconnect(self._on_theme)

    def _build(self) -> None:
        self.method, self.column = QComboBox(), QComboBox()
        self.method.addItems(list(METHODS))
        self.method.setToolTip("Projection to two dimensions, the same for all models")
        if find_spec("umap") is None:
            place = list(METHODS).index("UMAP")
            self.method.model().item(place).setEnabled(False)
            self.method.setItemData(place, _NO_UMAP, Qt.ItemDataRole.ToolTipRole)
        self.column.addItems(list(COLUMNS))
        self.column.setToolTip("Property shown by color")
        self.lasso = QCheckBox("&Lasso")
        self.lasso.setToolTip("Drag around points to select them in all pictures")
        self.stop_button = QPushButton("Sto&p")
        self.stop_button.setToolTip("Cancel the projection")
        self.list_button = QPushButton("Save lis&t…")
        self.list_button.setToolTip(f"Selected samples as CSV, or names of images. {_CORNERS}")
        self.save_button = ExportButton(f"Scatter plots as pictures, or all vectors. {_CORNERS}")
        self.status, self.legend = WrappingLabel(), QLabel()
        self.legend.setWordWrap(True)
        self.status.setToolTip("Projection and selection")
        first, second = QHBoxLayout(), QHBoxLayout()
        for text, box in (("P&rojection", self.method), ("&Color by", self.column)):
            first.addWidget(buddy_label(text, box))
            first.addWidget(box, 1)
        for part in (self.lasso, self.stop_button, self.list_button, self.save_button):
            second.addWidget(part)
        second.insertStretch(1, 1)
        # Takes the free space even without plots, so that the text stays at the bottom.
        pictures = QWidget()
        self._grid = QGridLayout(pictures)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setSpacing(2)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.setSpacing(4)
        layout.addLayout(first)
        layout.addLayout(second)
        layout.addWidget(pictures, 1)
        layout.addWidget(self.legend)
        layout.addWidget(self.status)
        self._enable()

    def _connect(self) -> None:
        self.method.currentIndexChanged.connect(self.project)
        self.column.currentIndexChanged.connect(self._color)
        self.lasso.toggled.connect(self._on_lasso)
        self.stop_button.clicked.connect(self.stop)
        self.list_button.clicked.connect(self._on_list)
        self.save_button.picture.connect(self._save_picture)
        self.save_button.numbers.connect(self._save_numbers)
        self._state.events.extraction.connect(self._on_extraction)
        self._state.events.selection.connect(self._mark)
        self._viewer.events.theme.connect(self._on_theme)

    def _on_extraction(self, extraction: "Extraction | None") -> None:
        # Remove the plots, whose points belong to the former extraction.
        self._make_scatters([])
        self._projection = None
        tables = {} if extraction is None else extraction.tables
        self._samples = {name: samples_of(table) for name, table in tables.items()}
        self.project()

    def _on_projected(self, projection: "Projection") -> None:
        self.workers.cancel("project")
        self._projection, self._drawn_method = projection, self.method.currentIndex()
        if list(self.scatters) != list(projection.points):
            self._make_scatters(list(projection.points))
        for name, points in projection.points.items():
            labels = [str(sample) for sample in self._samples[name]]
            self.scatters[name].draw(points, labels, self._tables[name].kinds)
        self._color()
        self._mark()

    def _on_failed(self, failure: Failure) -> None:
        self._restore_method()
        self._show_failure(failure)

    def _restore_method(self) -> None:
        """Set the combobox to the method of the displayed projection."""
        self.workers.cancel("project")
        with signals_blocked(self.method):
            self.method.setCurrentIndex(self._drawn_method)
        self._enable()

    @property
    def _tables(self) -> "dict[str, EmbeddingTable]":
        assert self._state.extraction is not None
        return self._state.extraction.tables

    def _make_scatters(self, names: list[str]) -> None:
        for scatter in self.scatters.values():
            self._grid.removeWidget(scatter)
            scatter.deleteLater()
        self.scatters = {}
        self.legend.setText("")
        for place, name in enumerate(names):
            scatter = Scatter(name, theme_colors(self._viewer))
            scatter.box.lasso = self.lasso.isChecked()
            scatter.clicked.connect(lambda row, name=name: self._on_clicked(name, row))
            scatter.lassoed.connect(lambda rows, name=name: self._on_lassoed(name, rows))
            # At most two columns fit in a narrow dock.
            columns = 1 if len(names) == 1 else 2
            self._grid.addWidget(scatter, place // columns, place % columns)
            self.scatters[name] = scatter

    def _color(self) -> None:
        for name, scatter in self.scatters.items():
            colors = point_colors(self._tables[name], self.column.currentText())
            scatter.color(colors)
            self.legend.setText(colors.legend)

    def _mark(self, _selection: object = None) -> None:
        selected = self._state.selection.samples
        for name, scatter in self.scatters.items():
            rows = [row for row, sample in enumerate(self._samples[name]) if sample in selected]
            scatter.ring(rows)
        if self._projection is not None and "project" not in self.workers:
            lines = (_projection_text(self._projection), _selection_text(self._state.selection))
            self.status.setText("\n".join(filter(None, lines)))
        self._enable()

    def _on_clicked(self, name: str, row: int) -> None:
        sample = self._samples[name][row]
        self._state.select([sample], sample)
        self._state.open(sample, name)

    def _on_lassoed(self, name: str, rows: list[int]) -> None:
        self._state.select(self._samples[name][row] for row in rows)

    def _on_lasso(self, on: bool) -> None:
        for scatter in self.scatters.values():
            scatter.box.lasso = on

    def _on_list(self) -> None:
        file = ask_file(self, "Save selected samples", "CSV (*.csv);;Names of images (*.txt)")
        if file is not None:
            self.save_list(file)

    def save_list(self, file: Path) -> None:
        """Write the selected samples as CSV, or the names of their images as text."""
        selected = sorted(self._state.selection.samples)
        if file.suffix == ".txt":
            names = sorted({(sample.domain, sample.case) for sample in selected})
            rows: list[list[Any]] = [[f"{domain}/{case}"] for domain, case in names]
        else:
            rows = [["domain", "case", "top", "left", "view", "kind"]]
            rows += [[s.domain, s.case, *s.corner, s.view, s.kind] for s in selected]
        self.status.setText(save_and_report(lambda: save_rows(file, rows), file))

    def _save_picture(self, file: Path) -> None:
        def save() -> None:
            for name, scatter in self.scatters.items():
                save_picture(scatter.getPlotItem(), _file_of(file, name, len(self.scatters)))

        self.status.setText(save_and_report(save, file))

    def _save_numbers(self, file: Path) -> None:
        self.status.setText(f"Writing {file.name}…")
        self.workers.start("save", _write(self._tables, file), self.status.setText)

    def _enable(self) -> None:
        busy = "project" in self.workers
        self.stop_button.setEnabled(busy)
        self.save_button.setEnabled(not busy and self._projection is not None)
        self.list_button.setEnabled(bool(self._state.selection.samples))

    def _show_failure(self, failure: Failure) -> None:
        self.status.setText(f"✕ {failure.sentence}")

    def _on_theme(self, _event: object = None) -> None:
        for scatter in self.scatters.values():
            scatter.recolor(theme_colors(self._viewer))


def _project(values: dict[str, Any], method: str) -> Iterator["Projection"]:
    from src_training.explore.projection import project

    yield project(values, method)


def _write(tables: "dict[str, EmbeddingTable]", file: Path) -> Iterator[str]:
    for name, table in tables.items():
        table.save_csv(_file_of(file, name, len(tables)))
    yield f"✓ Saved {file}."


def _file_of(file: Path, name: str, count: int) -> Path:
    """File name for one model; includes its name if there are several."""
    return file.with_stem(f"{file.stem}-{name.replace(' ', '-')}") if count > 1 else file


def _projection_text(projection: "Projection") -> str:
    if projection.explained is None:
        return projection.caption
    return f"{projection.caption} · {100 * sum(projection.explained):.0f} % of the variance"


def _selection_text(selection: Selection) -> str:
    count = len(selection.samples)
    if count == 1:
        return str(next(iter(selection.samples)))
    return f"{count:,} samples selected" if count else ""
