"""The FSD page: distances between domains, their trend during training, and influential images."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QLayout,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)
from superqt.utils import signals_blocked

from napari_msankd.explore.fsd.distance_matrix import DistanceMatrixView
from napari_msankd.explore.fsd.rows import (
    Rows,
    dice_rows,
    distance_rows,
    history_rows,
    influence_rows,
)
from napari_msankd.explore.fsd.tables import (
    InfluenceTable,
    NumberTable,
    correlation_text,
    dice_cells,
)
from napari_msankd.explore.state import ExploreState
from napari_msankd.theme import theme_colors
from napari_msankd.widgets.export_button import (
    ExportButton,
    save_and_report,
    save_picture,
    save_rows,
    save_table,
)
from napari_msankd.widgets.layout import buddy_label
from napari_msankd.widgets.line_plot import LinePlot
from napari_msankd.widgets.wrapping_label import WrappingLabel
from napari_msankd.workers import Failure, WorkerGroup

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_msankd.explore.extraction import Extraction
    from src_training.explore.embedding_table import EmbeddingTable
    from src_training.explore.fsd_influence import Influence
    from src_training.explore.fsd_matrix import DistanceMatrix
    from src_training.runs.history import RunHistory

_TREND = (
    "Measured during distillation, on at most 32 patches of each domain. Trend only; values are "
    "not comparable with the matrix."
)
_NOT_MEASURED = "This run did not measure FSD during training."
_NO_RUN = "FSD during training is known of runs only, not of a model file."
_SAME_DOMAIN = "Choose two different domains to see which images contribute to their distance."
_MASKS = "Masks have no images: choose two domains."
_MATRIX, _IMAGES, _TRAINING, _DICE = range(4)


class FsdPage(QWidget):
    """FSD between all domains, for one model at a time.

    Parameters
    ----------
    viewer
        The viewer whose theme sets the colors.
    state
        State of the Explore widget.
    """

    def __init__(self, viewer: "ViewerModel", state: ExploreState) -> None:
        super().__init__()
        self._viewer, self._state = viewer, state
        self._matrices: dict[str, DistanceMatrix] = {}
        self._dice: dict[str, dict[str, float]] = {}
        self._history: RunHistory | None = None
        self._influences: list[Influence] = []
        self.workers = WorkerGroup(self, self._show_failure)
        self._build()
        self._connect()

    def end(self) -> None:
        """Cancel workers and disconnect from the viewer."""
        self.workers.cancel_all()
        self._viewer.events.theme.disconnect(self._on_theme)

    def _build(self) -> None:
        colors = theme_colors(self._viewer)
        self.model, self.source, self.target = QComboBox(), QComboBox(), QComboBox()
        self.model.setToolTip("The model whose semantic vectors are compared")
        self.source.setToolTip("Reference domain")
        self.target.setToolTip("Domain whose images are ranked")
        self.save_button = ExportButton("The picture or table shown, or its numbers")
        self.matrix = DistanceMatrixView(colors)
        self.dice = NumberTable(
            ("domain", "vectors", "FSD", "Dice"),
            "FSD to the first domain; Dice is the mean over patches, where there are masks",
        )
        self.influences = InfluenceTable(self._state)
        self.trend = LinePlot("step of distillation", "FSD to the source", colors, marks=True)
        self.status, self.done = WrappingLabel(), WrappingLabel()
        self.images_text, self.trend_text, self.correlation = (WrappingLabel() for _ in range(3))
        self.status.setToolTip("Warnings")
        top = QHBoxLayout()
        top.addWidget(buddy_label("&Model", self.model))
        top.addWidget(self.model, 1)
        top.addWidget(self.save_button)
        # In rows, because names of domains do not fit side by side in a narrow dock.
        pair = QFormLayout()
        pair.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        pair.addRow("&From", self.source)
        pair.addRow("&to", self.target)
        self.pages = QTabWidget()
        self.pages.addTab(_page(self.matrix, QWidget()), "M&atrix")
        self.pages.addTab(_page(pair, self.images_text, self.influences), "&Images")
        self.pages.addTab(_page(self.trend_text, self.trend), "Trainin&g")
        self.pages.addTab(_page(self.dice, self.correlation), "&Dice")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.setSpacing(4)
        layout.addLayout(top)
        layout.addWidget(self.pages, 1)
        layout.addWidget(self.status)
        layout.addWidget(self.done)

    def _connect(self) -> None:
        self.pages.currentChanged.connect(self._enable)
        self.model.currentIndexChanged.connect(self._on_model)
        self.source.currentIndexChanged.connect(self._rank_images)
        self.target.currentIndexChanged.connect(self._rank_images)
        self.matrix.clicked.connect(self._on_cell)
        self.influences.clicked_case.connect(self._on_case)
        self.save_button.picture.connect(self._save_picture)
        self.save_button.numbers.connect(self._save_numbers)
        self._state.events.extraction.connect(self._on_extraction)
        self._viewer.events.theme.connect(self._on_theme)

    def _on_extraction(self, extraction: "Extraction | None") -> None:
        """Compute the distances of an extraction, and read those of its run."""
        self.workers.cancel_all()
        if extraction is None:
            return
        self._matrices, self._dice, self._history = {}, {}, None
        self.done.setText("")
        for box, names in (
            (self.model, extraction.tables),
            (self.source, extraction.domains),
            (self.target, extraction.domains),
        ):
            with signals_blocked(box):
                box.clear()
                box.addItems(list(names))
                if box is not self.source:
                    box.setCurrentIndex(box.count() - 1)
        self._on_model()
        if extraction.request.run is None:
            self.trend_text.setText(_NO_RUN)
            self.trend.hide()
        else:
            self.workers.start("history", _read_history(extraction.request.run), self._on_history)

    @property
    def _table(self) -> "EmbeddingTable":
        assert self._state.extraction is not None
        return self._state.extraction.tables[self.model.currentText()]

    def _on_model(self) -> None:
        self._measure()
        self._rank_images()

    def _measure(self) -> None:
        name = self.model.currentText()
        if name in self._matrices:
            self.workers.cancel("measure")
            self._on_measured(name, self._matrices[name])
            return
        self.status.setText("Measuring distances…")
        self._enable()
        steps = _measure_matrix(self._table)
        self.workers.start("measure", steps, lambda matrix: self._on_measured(name, matrix))

    def _on_measured(self, name: str, matrix: "DistanceMatrix") -> None:
        from src_training.explore.fsd_matrix import dice_by_domain, dice_correlation

        dice = dice_by_domain(self._table)
        self._matrices[name], self._dice[name] = matrix, dice
        self.matrix.draw(name, matrix.names, matrix.fsd)
        self.dice.fill(dice_cells(matrix, dice))
        correlation = dice_correlation(matrix, dice)
        self.correlation.setText(correlation_text(matrix.names[0], correlation))
        self.status.setText("\n".join(f"⚠ {warning}" for warning in matrix.warnings))
        self._enable()

    def _rank_images(self) -> None:
        source, target = self.source.currentText(), self.target.currentText()
        self._show_influences([], _SAME_DOMAIN if source == target else "Ranking images…")
        if source == target:
            self.workers.cancel("influence")
            return
        steps = _rank_influences(self._table, source, target)
        failed = lambda failure: self.images_text.setText(f"✕ {failure.sentence}")  # noqa: E731
        self.workers.start("influence", steps, self._show_influences, failed)

    def _show_influences(self, influences: "list[Influence]", text: str = "") -> None:
        self._influences = influences
        self.images_text.setText(text)
        self.influences.draw(self.target.currentText(), influences)
        self._enable()

    def _on_history(self, history: "RunHistory") -> None:
        self._history = history
        lines = {
            name: (np.asarray(series.steps, float), np.asarray(series.values, float))
            for name, series in history.fsd.items()
        }
        self.trend_text.setText(_TREND if lines else _NOT_MEASURED)
        self.trend.setVisible(bool(lines))
        end = max((float(steps[-1]) for steps, _ in lines.values() if len(steps)), default=1.0)
        self.trend.draw(lines, end or 1.0)
        self._enable()

    def _on_cell(self, row: int, column: int) -> None:
        """Rank the images of the column's domain by influence on the distance to the row's."""
        matrix = self._matrices.get(self.model.currentText())
        if matrix is None:
            # The displayed matrix is of the former model; this one's is being computed.
            return
        if "masks" in (matrix.names[row], matrix.names[column]):
            self.done.setText(_MASKS)
            return
        self.source.setCurrentText(matrix.names[row])
        self.target.setCurrentText(matrix.names[column])
        self.pages.setCurrentIndex(_IMAGES)

    def _on_case(self, case: str) -> None:
        self._state.open_image(self.model.currentText(), self.target.currentText(), case)

    def _enable(self) -> None:
        """Enable saving if the current page shows anything."""
        measured = self.model.currentText() in self._matrices
        trend = self._history is not None and bool(self._history.fsd)
        ready = (measured, bool(self._influences), trend, measured)
        self.save_button.setEnabled(ready[self.pages.currentIndex()])

    def _save_picture(self, file: Path) -> None:
        plots = {_MATRIX: self.matrix, _TRAINING: self.trend.canvas}
        place = self.pages.currentIndex()
        if place in plots:
            text = save_and_report(lambda: save_picture(plots[place].getPlotItem(), file), file)
        else:
            table = self.influences if place == _IMAGES else self.dice
            text = save_and_report(lambda: save_table(table, file), file)
        self.done.setText(text)

    def _save_numbers(self, file: Path) -> None:
        rows = self._rows()
        self.done.setText(save_and_report(lambda: save_rows(file, rows), file))

    def _rows(self) -> Rows:
        model, place = self.model.currentText(), self.pages.currentIndex()
        if place == _IMAGES:
            ends = self.source.currentText(), self.target.currentText()
            return influence_rows(model, *ends, self._influences)
        if place == _TRAINING:
            assert self._state.extraction is not None and self._history is not None
            run = self._state.extraction.request.run
            assert run is not None
            return history_rows(run, self._history)
        if place == _MATRIX:
            return distance_rows(model, self._matrices[model])
        return dice_rows(model, self._matrices[model], self._dice[model])

    def _show_failure(self, failure: Failure) -> None:
        self.status.setText(f"✕ {failure.sentence}")

    def _on_theme(self, _event: object = None) -> None:
        colors = theme_colors(self._viewer)
        self.matrix.recolor(colors)
        self.trend.recolour(colors)


def _page(*parts: Any) -> QWidget:
    page = QWidget()
    layout = QVBoxLayout(page)
    layout.setContentsMargins(4, 4, 4, 4)
    for part in parts:
        layout.addLayout(part) if isinstance(part, QLayout) else layout.addWidget(part)
    return page


def _measure_matrix(table: "EmbeddingTable") -> Iterator["DistanceMatrix"]:
    from src_training.explore.fsd_matrix import distance_matrix

    yield distance_matrix(table)


def _rank_influences(
    table: "EmbeddingTable", source: str, target: str
) -> "Iterator[list[Influence]]":
    from src_training.explore.fsd_influence import leave_one_out_influence

    yield leave_one_out_influence(table, source, target)


def _read_history(run: Path) -> Iterator["RunHistory"]:
    from src_training.runs.history import RunFollower, RunHistory

    follower, history = RunFollower(run), RunHistory()
    while events := follower.poll():
        for event in events:
            history.take(event)
    yield history
