"""Results of a finished run: the verdict, its models side by side, and actions on them."""

from collections.abc import Callable, Iterable
from pathlib import Path

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QHeaderView,
    QSizePolicy,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_msankd.training.monitor.results import (
    ModelResult,
    Score,
    as_csv,
    domains,
    read_results,
)
from napari_msankd.widgets.layout import VerticalScrollArea, push_button
from napari_msankd.widgets.wrapping_label import WrappingLabel
from src_training.errors import InputError
from src_training.evaluation.verdict import VALIDATION, Verdict
from src_training.formatting import format_bytes, format_duration
from src_training.runs.directory import RunDirectory

_UNKNOWN = "—"
_CALIBRATED = "Test Dice after calibration; live curves are uncalibrated."
_UNMEASURED = "Not measured by the version that made this run"
_TITLES = {
    "teacher": "Teacher",
    "baseline": "Baseline\nstudent",
    "distilled": "Distilled\nstudent",
    "control": "Control\nstudent",
    "student": "Student",
}
_NAMES = {
    "teacher": "teacher",
    "baseline": "baseline",
    "distilled": "distilled student",
    "control": "control",
    "student": "student",
}


class ResultsTable(QWidget):
    """Teacher, baseline and distilled student as columns, measures as rows.

    The buttons act on the model of the selected column, by default the better student.

    Attributes
    ----------
    segment_with, export_onnx, export_bioimageio
        Emitted with the file of the selected model.
    open_folder
        Emitted with the run directory.
    train_control
        Emitted with the run directory, to train the control at equal time.
    """

    segment_with = Signal(object)
    export_onnx = Signal(object)
    export_bioimageio = Signal(object)
    open_folder = Signal(object)
    train_control = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._run: Path | None = None
        self._results: list[ModelResult] = []
        self._better = ""
        self.note = WrappingLabel()
        self.verdict = WrappingLabel()
        self.table = _table()
        self.table.itemSelectionChanged.connect(self._on_chosen)
        rows = self._buttons()
        inside = QWidget()
        report = QVBoxLayout(inside)
        report.setContentsMargins(0, 0, 0, 0)
        report.setSpacing(6)
        report.addWidget(self.verdict)
        report.addWidget(self.control)
        report.addWidget(self.table)
        report.addWidget(self.note)
        report.addStretch(1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        # Long verdicts and notes scroll, where they would make napari's window higher.
        layout.addWidget(VerticalScrollArea(inside), 1)
        for row in rows:
            layout.addLayout(row)
        self.clear()

    @property
    def chosen(self) -> ModelResult | None:
        """The model of the selected column."""
        column = self.table.currentColumn()
        return self._results[column] if 0 <= column < len(self._results) else None

    def open(self, run: Path, verdict: Verdict | None = None, notes: Iterable[str] = ()) -> None:
        """Show the report of a run, its verdict and notes, or an error if there is no report."""
        self._run = run
        self._better = "" if verdict is None or verdict.tied else verdict.better
        try:
            results, note = read_results(run), _CALIBRATED
        except InputError as error:
            results, note = [], f"⚠ {error}"
        self.verdict.setText(verdict.sentence if verdict else "")
        self.note.setText("\n".join([note, *(f"⚠ {each}" for each in notes)]))
        self._show(results)
        missing = verdict is not None and not verdict.controlled
        self.control.setVisible(missing and not RunDirectory(run).control.recipe.exists())

    def clear(self) -> None:
        """Clear the table and the texts."""
        self._run = None
        self._show([])
        self.control.hide()
        self.note.clear()
        self.verdict.clear()

    def copy(self) -> None:
        """Copy all numbers to the clipboard, as CSV."""
        QGuiApplication.clipboard().setText(as_csv(self._results))

    def _buttons(self) -> list[QHBoxLayout]:
        self.segment = push_button("Se&gment with this model", "Open Segment with the chosen model")
        self.onnx = push_button(
            "&ONNX…", "Export the chosen model to an ONNX file, checked on the spot"
        )
        self.bioimageio = push_button(
            "&bioimage.io…", "Export the chosen model to a folder for bioimage.io"
        )
        self.folder = push_button("Open &folder", "Open the run's directory")
        self.csv = push_button("&Copy as CSV", "Copy every number, unrounded")
        self.control = push_button(
            "&Train control at equal time",
            "Train the student without a teacher for as long as distillation took: what of the "
            "difference is the teacher's?",
        )
        self.control.clicked.connect(lambda: self.train_control.emit(self._run))
        self.segment.clicked.connect(self._with_model(self.segment_with))
        self.onnx.clicked.connect(self._with_model(self.export_onnx))
        self.bioimageio.clicked.connect(self._with_model(self.export_bioimageio))
        self.folder.clicked.connect(lambda: self.open_folder.emit(self._run))
        self.csv.clicked.connect(self.copy)
        first, second = QHBoxLayout(), QHBoxLayout()
        first.addWidget(self.segment)
        for button in (self.onnx, self.bioimageio, self.csv, self.folder):
            second.addWidget(button)
        return [first, second]

    def _with_model(self, signal: Signal) -> Callable[[], None]:
        def emit() -> None:
            if self.chosen is not None:
                signal.emit(self.chosen.file)

        return emit

    def _show(self, results: list[ModelResult]) -> None:
        self._results = results
        rows = _rows(results)
        self.table.clear()
        self.table.setColumnCount(len(results))
        self.table.setRowCount(len(rows))
        titles = [
            f"{_TITLES[_model_kind(result)]}{' ★' * (result.role == self._better)}"
            for result in results
        ]
        self.table.setHorizontalHeaderLabels(titles)
        self.table.setVerticalHeaderLabels([name for name, _ in rows])
        for row, (_, cells) in enumerate(rows):
            for column, (text, tip) in enumerate(cells):
                self.table.setItem(row, column, _cell(text, tip))
        self.table.setVisible(bool(results))
        roles = [result.role for result in results]
        if roles:
            self.table.selectColumn(roles.index(self._better or roles[-1]))
        self._on_chosen()

    def _on_chosen(self) -> None:
        chosen = self.chosen
        for button in (self.segment, self.onnx, self.bioimageio):
            button.setEnabled(chosen is not None and chosen.usable)
        self.csv.setEnabled(bool(self._results))
        self.folder.setEnabled(self._run is not None)
        if chosen is not None:
            better = " (higher Dice)" if chosen.role == self._better else ""
            self.segment.setText(f"Se&gment with the {_NAMES[_model_kind(chosen)]}{better}")


def _model_kind(result: ModelResult) -> str:
    """Role of a model; ``control`` for a distilled student that was trained without a teacher."""
    return "control" if result.role == "distilled" and not result.taught else result.role


def _rows(results: list[ModelResult]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Name of each measure, and text and tooltip for each model."""
    names = domains(results)
    return [
        *(
            (
                _row_title(f"Dice{_kind(results, name)}", name),
                [_dice(result.dice.get(name)) for result in results],
            )
            for name in names
        ),
        *(
            (_row_title("FSD", name), [_fsd(result.fsd.get(name)) for result in results])
            for name in names
        ),
        ("Parameters", [_count(result.parameters) for result in results]),
        ("Model file", [_size(result.bytes) for result in results]),
        ("Time per image", [_time(result.seconds) for result in results]),
        ("Training", [_training_time(result.training_seconds) for result in results]),
    ]


def _row_title(measure: str, domain: str) -> str:
    """Measure and kind of images above, domain below: short lines leave room for numbers."""
    validation = VALIDATION if domain.endswith(VALIDATION) else ""
    return f"{measure}{validation}\n{domain.removesuffix(VALIDATION)}"


def _kind(results: list[ModelResult], domain: str) -> str:
    """Suffix of a test domain: ``(adapted)`` if any model has seen its scanner, or ``(unseen)``."""
    kinds = [result.kinds.get(domain, "") for result in results]
    kind = next((kind for kind in kinds if kind in ("source", "adapted")), *kinds[:1])
    return f" ({kind})" if kind not in ("", "validation") else ""


def _dice(score: Score | None) -> tuple[str, str]:
    if score is None:
        return _UNKNOWN, "This domain has no masks"
    tip = "Mean over the images, and its 95 % bootstrap interval over patients"
    return f"{score:.3f}", tip


def _fsd(score: Score | None) -> tuple[str, str]:
    if score is None:
        return _UNKNOWN, _UNMEASURED
    tip = "Fréchet distance of the semantic vectors to the source's, and its 95 % interval"
    largest = max((each for each in (score.value, score.high) if each is not None), default=0)
    digits = 2 if largest < 10 else 1 if largest < 100 else 0
    return f"{score:.{digits}f}", tip


def _count(parameters: int) -> tuple[str, str]:
    return (f"{parameters:,}", "") if parameters else (_UNKNOWN, "A model from elsewhere")


def _size(count: int | None) -> tuple[str, str]:
    return (
        (format_bytes(count), f"{count:,} bytes") if count is not None else (_UNKNOWN, _UNMEASURED)
    )


def _time(seconds: float | None) -> tuple[str, str]:
    if seconds is None:
        return _UNKNOWN, _UNMEASURED
    text = f"{1000 * seconds:.0f} ms" if seconds < 1 else format_duration(seconds)
    return text, "Median over the test images, from image to labels"


def _training_time(seconds: float | None) -> tuple[str, str]:
    if seconds is None:
        return _UNKNOWN, _UNMEASURED
    tip = "Steps of its own stage, without validations and the stages before"
    return format_duration(seconds), tip


def _cell(text: str, tip: str) -> QTableWidgetItem:
    item = QTableWidgetItem(text)
    item.setTextAlignment(Qt.AlignmentFlag.AlignCenter)
    item.setToolTip(tip)
    item.setFlags(Qt.ItemFlag.ItemIsSelectable | Qt.ItemFlag.ItemIsEnabled)
    return item


def _table() -> QTableWidget:
    table = QTableWidget()
    table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectColumns)
    table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
    table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
    table.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
    table.verticalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
    table.horizontalHeader().setMinimumSectionSize(84)
    table.setWordWrap(False)
    # All rows are shown: the page scrolls, not the table inside it.
    table.setSizeAdjustPolicy(QAbstractItemView.SizeAdjustPolicy.AdjustToContents)
    table.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Minimum)
    table.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    table.setToolTip("Choose a column: the buttons act on its model")
    return table
