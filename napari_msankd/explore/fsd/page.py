"""The FSD page: how far domains lie apart, over training, and which images do it."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLayout,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from napari_msankd.explore.fsd.dice_table import DiceTable, agreement
from napari_msankd.explore.fsd.distance_matrix import DistanceMatrixView
from napari_msankd.explore.fsd.influence_table import InfluenceTable
from napari_msankd.explore.fsd.rows import (
    contribution_rows,
    course_rows,
    dice_rows,
    distance_rows,
)
from napari_msankd.explore.selection import Selection, samples_of
from napari_msankd.theme import theme_colors
from napari_msankd.widgets.export_button import (
    ExportButton,
    save_and_report,
    save_picture,
    save_rows,
    save_table,
)
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

_COURSE = (
    "Measured while the student learnt, on at most 32 patches of a domain: how it moves is told, "
    "its height does not compare with the matrix."
)
_UNMEASURED = "This run did not measure FSD while it trained."
_NO_RUN = "A run measures FSD while it trains; a model alone does not tell."
_ONE = "A domain is at no distance from itself: choose two to see which images push one away."


class FsdPage(QWidget):
    """Distances between all domains, by one model at a time.

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
    """

    clicked = Signal(object, str)

    def __init__(self, viewer: "ViewerModel", selection: Selection) -> None:
        super().__init__()
        self._viewer, self._selection = viewer, selection
        self._explored: Extraction | None = None
        self._matrices: dict[str, DistanceMatrix] = {}
        self._dice: dict[str, dict[str, float]] = {}
        self._history: RunHistory | None = None
        self._contributions: list[Influence] = []
        self.workers = WorkerGroup(self, self._fail)
        self._build()
        self._connect()

    def show_explored(self, explored: "Extraction") -> None:
        """Measure the distances of what was extracted, and read the run's."""
        self.workers.cancel_all()
        self._explored, self._matrices, self._dice, self._history = explored, {}, {}, None
        self.done.setText("")
        self._enable()
        for box, names in (
            (self.model, explored.tables),
            (self.source, explored.domains),
            (self.target, explored.domains),
        ):
            box.blockSignals(True)
            box.clear()
            box.addItems(list(names))
            box.blockSignals(False)
        self.model.setCurrentIndex(self.model.count() - 1)
        self.target.setCurrentIndex(self.target.count() - 1)
        self._measure()
        self._contribute()
        if explored.request.run is None:
            self.course_words.setText(_NO_RUN)
            self.course.hide()
        else:
            self.workers.start("course", _course(explored.request.run), self._on_course)

    def end(self) -> None:
        """Work no more."""
        self.workers.cancel_all()
        self._viewer.events.theme.disconnect(self._on_theme)

    def _build(self) -> None:
        colours = theme_colors(self._viewer)
        self.model, self.source, self.target = QComboBox(), QComboBox(), QComboBox()
        self.model.setToolTip("Whose semantic vectors are compared")
        self.source.setToolTip("The domain that the target should be near")
        self.target.setToolTip("The domain whose images are sorted")
        self.save_button = ExportButton("The picture in sight, or its numbers")
        self.matrix, self.dice = DistanceMatrixView(colours), DiceTable()
        self.contributions = InfluenceTable(self._selection)
        self.course = LinePlot("step of distil", "FSD to the source", colours, marks=True)
        self.status, self.done = WrappingLabel(), WrappingLabel()
        self.image_words, self.course_words, self.agreement = (
            WrappingLabel(),
            WrappingLabel(),
            WrappingLabel(),
        )
        self.status.setToolTip("What to think of these numbers")
        top = QHBoxLayout()
        top.addWidget(_label("&Model", self.model))
        top.addWidget(self.model, 1)
        top.addWidget(self.save_button)
        # One below the other: side by side, names of domains are cut in a narrow dock.
        pair = QFormLayout()
        pair.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        pair.addRow("&From", self.source)
        pair.addRow("&to", self.target)
        self.pages = QTabWidget()
        self.pages.addTab(_page(self.matrix, QWidget()), "M&atrix")
        self.pages.addTab(_page(pair, self.image_words, self.contributions), "&Images")
        self.pages.addTab(_page(self.course_words, self.course), "Trainin&g")
        self.pages.addTab(_page(self.dice, self.agreement), "&Dice")
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
        self.source.currentIndexChanged.connect(self._contribute)
        self.target.currentIndexChanged.connect(self._contribute)
        self.matrix.clicked.connect(self._on_cell)
        self.contributions.clicked_case.connect(self._on_case)
        self.save_button.picture.connect(self._save_picture)
        self.save_button.numbers.connect(self._save_numbers)
        self._viewer.events.theme.connect(self._on_theme)

    @property
    def _table(self) -> "EmbeddingTable":
        assert self._explored is not None
        return self._explored.tables[self.model.currentText()]

    def _on_model(self) -> None:
        self._measure()
        self._contribute()

    def _measure(self) -> None:
        name = self.model.currentText()
        if name in self._matrices:
            self.workers.cancel("measure")
            self._on_measured(name, self._matrices[name])
            return
        self.status.setText("Measuring…")
        self._enable()
        steps = _measured(self._table)
        self.workers.start("measure", steps, lambda matrix: self._on_measured(name, matrix))

    def _on_measured(self, name: str, matrix: "DistanceMatrix") -> None:
        from src_training.explore.fsd_matrix import dice_by_domain, dice_correlation

        dice = dice_by_domain(self._table)
        self._matrices[name], self._dice[name] = matrix, dice
        self.matrix.draw(name, matrix.names, matrix.fsd)
        self.dice.draw(matrix, dice)
        self.agreement.setText(agreement(matrix.names[0], dice_correlation(matrix, dice)))
        self.status.setText("\n".join(f"⚠ {warning}" for warning in matrix.warnings))
        self._enable()

    def _contribute(self) -> None:
        source, target = self.source.currentText(), self.target.currentText()
        self._on_contributions([])
        self.image_words.setText(_ONE if source == target else "Measuring…")
        if source == target:
            self.workers.cancel("contribute")
            return
        steps = _contributed(self._table, source, target)
        self.workers.start("contribute", steps, self._on_contributed, self._on_no_contributions)

    def _on_contributed(self, found: "list[Influence]") -> None:
        self.image_words.setText("")
        self._on_contributions(found)

    def _on_no_contributions(self, failure: Failure) -> None:
        self.image_words.setText(f"✕ {failure.sentence}")

    def _on_contributions(self, found: "list[Influence]") -> None:
        self._contributions = found
        self.contributions.draw(self.target.currentText(), found)
        self._enable()

    def _on_course(self, history: "RunHistory") -> None:
        self._history = history
        lines = {
            name: (np.asarray(series.steps, float), np.asarray(series.values, float))
            for name, series in history.fsd.items()
        }
        self.course_words.setText(_COURSE if lines else _UNMEASURED)
        self.course.setVisible(bool(lines))
        end = max((float(steps[-1]) for steps, _ in lines.values() if len(steps)), default=1.0)
        self.course.draw(lines, end or 1.0)
        self._enable()

    def _on_cell(self, row: int, column: int) -> None:
        """Show which images of the column's domain push it from the row's."""
        matrix = self._matrices.get(self.model.currentText())
        if matrix is None:
            # What is in sight is of another model, whose place is being measured for.
            return
        if "masks" in (matrix.names[row], matrix.names[column]):
            self.done.setText("Masks are no images of a domain: choose two domains.")
            return
        self.source.setCurrentText(matrix.names[row])
        self.target.setCurrentText(matrix.names[column])
        self.pages.setCurrentIndex(1)

    def _on_case(self, case: str) -> None:
        domain = self.target.currentText()
        chosen = [s for s in samples_of(self._table) if (s.domain, s.case) == (domain, case)]
        first = next(sample for sample in chosen if sample.kind == "image")
        self._selection.choose(chosen, first)
        self.clicked.emit(first, self.model.currentText())

    def _enable(self) -> None:
        """Only what is in sight can be saved; where nothing is, the page says why."""
        measured = self.model.currentText() in self._matrices
        course = self._history is not None and bool(self._history.fsd)
        there = (measured, bool(self._contributions), course, measured)
        self.save_button.setEnabled(there[self.pages.currentIndex()])

    def _save_picture(self, file: Path) -> None:
        plots = {0: self.matrix, 2: self.course.canvas}
        place = self.pages.currentIndex()
        if place in plots:
            written = save_and_report(lambda: save_picture(plots[place].getPlotItem(), file), file)
        else:
            table = self.contributions if place == 1 else self.dice
            written = save_and_report(lambda: save_table(table, file), file)
        self.done.setText(written)

    def _save_numbers(self, file: Path) -> None:
        assert self._explored is not None
        model, place = self.model.currentText(), self.pages.currentIndex()
        if place == 1:
            ends = self.source.currentText(), self.target.currentText()
            rows = contribution_rows(model, *ends, self._contributions)
        elif place == 2:
            assert self._explored.request.run is not None and self._history is not None
            rows = course_rows(self._explored.request.run, self._history)
        elif place == 0:
            rows = distance_rows(model, self._matrices[model])
        else:
            rows = dice_rows(model, self._matrices[model], self._dice[model])
        self.done.setText(save_and_report(lambda: save_rows(file, rows), file))

    def _fail(self, failure: Failure) -> None:
        self.status.setText(f"✕ {failure.sentence}")

    def _on_theme(self, _event: object = None) -> None:
        for picture in (self.matrix, self.course):
            picture.recolour(theme_colors(self._viewer))


def _label(text: str, box: QComboBox) -> QLabel:
    label = QLabel(text)
    label.setBuddy(box)
    return label


def _page(*parts: Any) -> QWidget:
    page = QWidget()
    layout = QVBoxLayout(page)
    layout.setContentsMargins(4, 4, 4, 4)
    for part in parts:
        layout.addLayout(part) if isinstance(part, QLayout) else layout.addWidget(part)
    return page


def _measured(table: "EmbeddingTable") -> Iterator["DistanceMatrix"]:
    from src_training.explore.fsd_matrix import distance_matrix

    yield distance_matrix(table)


def _contributed(table: "EmbeddingTable", source: str, target: str) -> "Iterator[list[Influence]]":
    from src_training.explore.fsd_influence import leave_one_out_influence

    yield leave_one_out_influence(table, source, target)


def _course(run: Path) -> Iterator["RunHistory"]:
    from src_training.runs.history import RunFollower, RunHistory

    follower, history = RunFollower(run), RunHistory()
    while events := follower.poll():
        for event in events:
            history.take(event)
    yield history
