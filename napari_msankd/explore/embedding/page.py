"""The Vectors page: semantic vectors of every model, in one projection side by side."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_msankd.explore.embedding.point_colors import BY, colouring
from napari_msankd.explore.embedding.scatter import Scatter
from napari_msankd.explore.selection import Sample, Selection, samples_of
from napari_msankd.theme import theme_colors
from napari_msankd.widgets.export_button import (
    ExportButton,
    ask_file,
    save_and_report,
    save_picture,
    save_rows,
)
from napari_msankd.widgets.wrapping_label import WrappingLabel
from napari_msankd.workers import Failure, WorkerGroup

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_msankd.explore.extraction import Extraction
    from src_training.explore.embedding_table import EmbeddingTable
    from src_training.explore.projection import Projection

METHODS = {"PCA": "pca", "t-SNE": "tsne", "UMAP": "umap"}
_PLACES = "In the CSV, top and left are pixels of the prepared image"
_NO_UMAP = "UMAP is an extra that is not installed: pip install 'napari-msankd[umap]'"


class EmbeddingPage(QWidget):
    """A scatter for each model; what is chosen in one is ringed in all.

    Parameters
    ----------
    viewer
        Whose theme is followed.
    selection
        What is chosen.

    Attributes
    ----------
    clicked
        Emitted with the `Sample` to open, and the name of the model.
    scatters
        The picture of each model.
    """

    clicked = Signal(object, str)

    def __init__(self, viewer: "ViewerModel", selection: Selection) -> None:
        super().__init__()
        self._viewer, self._selection = viewer, selection
        self._explored: Extraction | None = None
        self._samples: dict[str, list[Sample]] = {}
        self._projection: Projection | None = None
        self._drawn_by = 0
        self.scatters: dict[str, Scatter] = {}
        self.workers = WorkerGroup(self, self._fail)
        self._build()
        self._connect()

    def show_explored(self, explored: "Extraction") -> None:
        """Project the vectors of what was extracted."""
        # Points of what was explored before are of no sample of this.
        self._renew([])
        self._explored, self._projection = explored, None
        self._samples = {name: samples_of(table) for name, table in explored.tables.items()}
        self.project()

    def project(self) -> None:
        """Project anew; an earlier projection under way is given up."""
        if self._explored is None:
            return
        values = {name: table.values for name, table in self._explored.tables.items()}
        method = METHODS[self.method.currentText()]
        self._busy(True)
        self.status.setText(f"Projecting by {self.method.currentText()}…")
        steps = _projected(values, method)
        self.workers.start("project", steps, self._on_projected, self._on_unprojected)

    def stop(self) -> None:
        """Give the projection up; what was drawn stays."""
        self.workers.cancel("project")
        self._go_back()
        self.status.setText("Stopped.")

    def end(self) -> None:
        """Work no more."""
        self.workers.cancel_all()
        self._viewer.events.theme.disconnect(self._on_theme)

    def _build(self) -> None:
        self.method, self.by = QComboBox(), QComboBox()
        self.method.addItems(list(METHODS))
        self.method.setToolTip("How vectors become points: one projection for all models")
        if find_spec("umap") is None:
            place = list(METHODS).index("UMAP")
            self.method.model().item(place).setEnabled(False)
            self.method.setItemData(place, _NO_UMAP, Qt.ItemDataRole.ToolTipRole)
        self.by.addItems(list(BY))
        self.by.setToolTip("What the colours tell")
        self.lasso = QCheckBox("&Lasso")
        self.lasso.setToolTip("Drag around points to choose them; the other pictures follow")
        self.stop_button = QPushButton("Sto&p")
        self.stop_button.setToolTip("Give up the projection")
        self.list_button = QPushButton("Save lis&t…")
        self.list_button.setToolTip(f"The chosen samples, as CSV or plain names. {_PLACES}")
        self.save_button = ExportButton(
            f"The scatters as pictures, or all vectors as CSV. {_PLACES}"
        )
        self.bar = QProgressBar()
        self.bar.setRange(0, 0)
        self.bar.setMaximumHeight(8)
        self.status, self.legend = WrappingLabel(), QLabel()
        self.legend.setWordWrap(True)
        self.status.setToolTip("The projection's settings, and what is chosen")
        first, second = QHBoxLayout(), QHBoxLayout()
        for words, box in (("&Projection", self.method), ("&Colour by", self.by)):
            label = QLabel(words)
            label.setBuddy(box)
            first.addWidget(label)
            first.addWidget(box, 1)
        for part in (self.lasso, self.stop_button, self.list_button, self.save_button):
            second.addWidget(part)
        second.insertStretch(1, 1)
        # Without a picture it keeps its room: the words stay at the foot.
        pictures = QWidget()
        self._grid = QGridLayout(pictures)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setSpacing(2)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.setSpacing(4)
        layout.addLayout(first)
        layout.addLayout(second)
        layout.addWidget(self.bar)
        layout.addWidget(pictures, 1)
        layout.addWidget(self.legend)
        layout.addWidget(self.status)
        self._busy(False)
        self.list_button.setEnabled(False)

    def _connect(self) -> None:
        self.method.currentIndexChanged.connect(self.project)
        self.by.currentIndexChanged.connect(self._colour)
        self.lasso.toggled.connect(self._on_lasso)
        self.stop_button.clicked.connect(self.stop)
        self.list_button.clicked.connect(self._on_list)
        self.save_button.picture.connect(self._save_picture)
        self.save_button.numbers.connect(self._save_numbers)
        self._selection.changed.connect(self._ring)
        self._viewer.events.theme.connect(self._on_theme)

    def _on_projected(self, projection: "Projection") -> None:
        self._projection, self._drawn_by = projection, self.method.currentIndex()
        self._busy(False)
        if list(self.scatters) != list(projection.points):
            self._renew(list(projection.points))
        assert self._explored is not None
        for name, points in projection.points.items():
            words = [sample.words for sample in self._samples[name]]
            self.scatters[name].draw(points, words, self._explored.tables[name].kinds)
        self._colour()
        self._ring()

    def _on_unprojected(self, failure: Failure) -> None:
        self._go_back()
        self._fail(failure)

    def _go_back(self) -> None:
        """What was drawn stays, and the box names what it was drawn by."""
        self._busy(False)
        self.method.blockSignals(True)
        self.method.setCurrentIndex(self._drawn_by)
        self.method.blockSignals(False)

    def _renew(self, names: list[str]) -> None:
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
            # The eye compares best along a row; narrow docks have two of them.
            columns = 1 if len(names) == 1 else 2
            self._grid.addWidget(scatter, place // columns, place % columns)
            self.scatters[name] = scatter

    def _colour(self) -> None:
        if self._explored is None:
            return
        for name, scatter in self.scatters.items():
            found = colouring(self._explored.tables[name], self.by.currentText())
            scatter.colour(found)
            self.legend.setText(found.legend)

    def _ring(self) -> None:
        chosen = self._selection.samples
        for name, scatter in self.scatters.items():
            rows = [row for row, sample in enumerate(self._samples[name]) if sample in chosen]
            scatter.ring(rows)
        self.list_button.setEnabled(bool(chosen))
        if self._projection is not None and self.bar.isHidden():
            self.status.setText(f"{_told(self._projection)}\n{_chosen(self._selection)}".strip())

    def _on_clicked(self, name: str, row: int) -> None:
        sample = self._samples[name][row]
        self._selection.choose([sample], sample)
        self.clicked.emit(sample, name)

    def _on_lassoed(self, name: str, rows: list[int]) -> None:
        self._selection.choose(self._samples[name][row] for row in rows)

    def _on_lasso(self, on: bool) -> None:
        for scatter in self.scatters.values():
            scatter.box.lasso = on

    def _on_list(self) -> None:
        file = ask_file(self, "Save the chosen samples", "CSV (*.csv);;Names of images (*.txt)")
        if file is not None:
            self.save_list(file)

    def save_list(self, file: Path) -> None:
        """Write the chosen samples: each as a line of CSV, or the images they are of as names."""
        chosen = sorted(self._selection.samples)
        if file.suffix == ".txt":
            names = sorted({(sample.domain, sample.case) for sample in chosen})
            rows: list[list[Any]] = [[f"{domain}/{case}"] for domain, case in names]
        else:
            rows = [["domain", "case", "top", "left", "view", "kind"]]
            rows += [[s.domain, s.case, *s.corner, s.view, s.kind] for s in chosen]
        self.status.setText(save_and_report(lambda: save_rows(file, rows), file))

    def _save_picture(self, file: Path) -> None:
        def save() -> None:
            for name, scatter in self.scatters.items():
                save_picture(scatter.getPlotItem(), _own(file, name, len(self.scatters)))

        self.status.setText(save_and_report(save, file))

    def _save_numbers(self, file: Path) -> None:
        assert self._explored is not None
        self.status.setText(f"Writing {file.name}…")
        self.workers.start("save", _written(self._explored.tables, file), self.status.setText)

    def _busy(self, busy: bool) -> None:
        self.bar.setVisible(busy)
        self.stop_button.setEnabled(busy)
        self.save_button.setEnabled(not busy and bool(self.scatters or self._projection))

    def _fail(self, failure: Failure) -> None:
        self.status.setText(f"✕ {failure.sentence}")

    def _on_theme(self, _event: object = None) -> None:
        for scatter in self.scatters.values():
            scatter.recolour(theme_colors(self._viewer))


def _projected(values: dict[str, Any], method: str) -> Iterator["Projection"]:
    from src_training.explore.projection import project

    yield project(values, method)


def _written(tables: "dict[str, EmbeddingTable]", file: Path) -> Iterator[str]:
    for name, table in tables.items():
        table.save_csv(_own(file, name, len(tables)))
    yield f"✓ {file} is written."


def _own(file: Path, name: str, count: int) -> Path:
    """The file of one model; its name is in it where there are several."""
    return file.with_stem(f"{file.stem}-{name.replace(' ', '-')}") if count > 1 else file


def _told(projection: "Projection") -> str:
    """How the points came about."""
    if projection.explained is None:
        return projection.caption
    return f"{projection.caption} · {100 * sum(projection.explained):.0f} % of the variance"


def _chosen(selection: Selection) -> str:
    count = len(selection.samples)
    if count == 1:
        return next(iter(selection.samples)).words
    return f"{count:,} samples chosen" if count else ""
