"""The Choose page: models and domains to explore, and the extraction of their vectors."""

from collections.abc import Iterator, Sized
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QFormLayout,
    QHBoxLayout,
    QProgressBar,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_msankd.datasets.dataset_list import DatasetList
from napari_msankd.explore.encoder_fit import EncoderFitted, FitEncoderPanel, fit
from napari_msankd.explore.extraction import (
    Extraction,
    FirstImage,
    MissingEncoder,
    Progress,
    Request,
    explore,
)
from napari_msankd.explore.state import ExploreState, missing
from napari_msankd.formatting import literal
from napari_msankd.settings import preferences
from napari_msankd.widgets.error_dialog import show_traceback
from napari_msankd.widgets.export_button import ask_file
from napari_msankd.widgets.layout import VerticalScrollArea, buddy_label, make_primary
from napari_msankd.widgets.model_combo import ModelCombo
from napari_msankd.widgets.run_combo import RunCombo
from napari_msankd.widgets.wrapping_label import WrappingLabel
from napari_msankd.workers import Failure, WorkerGroup
from src_training.inference.shipped import shipped_models
from src_training.io.atomic import write_text

if TYPE_CHECKING:
    from napari.components import ViewerModel

_INTRODUCTION = (
    "How similar are the images of two scanners to a model, and will it work on yours? Choose a "
    "run or a model, and images. No masks are needed."
)
_DOMAINS = "Images: a folder or open layers for each scanner or hospital, the reference first."


class ExploreSetupPage(QWidget):
    """Controls to choose models and domains and to start the extraction.

    Parameters
    ----------
    viewer
        The viewer whose layers can be chosen and whose theme sets the colors.
    state
        State of the Explore widget; gets the choices and the finished `Extraction`.

    Attributes
    ----------
    first_image
        Emitted with a `FirstImage` before the encoding starts.
    """

    first_image = Signal(object)

    def __init__(self, viewer: "ViewerModel", state: ExploreState) -> None:
        super().__init__()
        self.viewer, self._state = viewer, state
        self.workers = WorkerGroup(self, self._fail)
        self._traceback = ""
        self._build()
        self._connect()
        self._write_state()

    def start(self) -> None:
        """Extract the vectors of the chosen models and domains, as the button does."""
        state = self._state
        request = Request(
            run=state.chosen_run,
            model=state.model,
            datasets=state.datasets or (),
            own_domains=state.chosen_run is not None and state.own_domains,
            views=state.views,
            cache=preferences().cache / "vectors",
        )
        self._start(explore(request))

    def start_sample(self) -> None:
        """Explore synthetic fundus images with the chosen model or the first shipped one."""
        cache = preferences().cache / "vectors"
        model = self._state.model or next(iter(shipped_models().values()))
        self._start(explore(Request(run=None, model=model, sample=True, cache=cache)))

    def stop(self) -> None:
        """Stop the extraction; cached vectors are kept."""
        self._finish("Stopped. Vectors that were computed stay cached.")

    def save_report(self, file: Path) -> None:
        """Write a report of the extraction, in a worker."""
        extraction = self._state.extraction
        assert extraction is not None
        self.status.setText(f"Writing {file.name}…")
        steps = _write_report(extraction, file)
        self.workers.start("report", steps, self.status.setText, self._show_failure)

    def end(self) -> None:
        """Cancel workers and end the child widgets."""
        self.run.end()
        self.domains.end()
        self.workers.cancel_all()

    def _build(self) -> None:
        self.domains = DatasetList(self.viewer, "optional", _DOMAINS)
        form = self._form()
        inner = QWidget()
        layout = QVBoxLayout(inner)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.setSpacing(6)
        layout.addWidget(WrappingLabel(_INTRODUCTION))
        layout.addLayout(form)
        layout.addWidget(self.own_domains)
        layout.addWidget(self.domains)
        layout.addStretch(1)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(4)
        whole.addWidget(VerticalScrollArea(inner), 1)
        whole.addLayout(self._buttons())
        make_primary(self.extract, self.viewer)

    def _form(self) -> QFormLayout:
        self.run = RunCombo(preferences().runs)
        self.run.setToolTip("A finished run: its teacher, its baseline and its distilled student")
        self.use_run = QCheckBox()
        self.use_run.setChecked(True)
        self.use_run.setToolTip("Explore the models of this run")
        self.use_run.setAccessibleName("Explore the models of the run")
        self.model = ModelCombo(none="No additional model")
        self.model.setToolTip("A model beside those of the run, or without a run")
        self.views = QSpinBox()
        self.views.setRange(0, 16)
        self.views.setToolTip(
            "Augmented views per patch, made as in training. Each takes as long as the patch"
        )
        self.own_domains = QCheckBox("Include the &run's own images")
        self.own_domains.setChecked(True)
        self.own_domains.setToolTip("The images that the run was trained and tested on")
        row = QHBoxLayout()
        row.addWidget(self.use_run)
        row.addWidget(self.run, 1)
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        form.addRow(buddy_label("R&un", self.run), row)
        form.addRow("&Model", self.model)
        form.addRow("&Views per patch", self.views)
        return form

    def _buttons(self) -> QVBoxLayout:
        self.extract = QPushButton("&Extract vectors")
        self.stop_button = QPushButton("Sto&p")
        self.stop_button.setToolTip("Stop after the current image; computed vectors stay cached")
        self.sample = QPushButton("Explore a s&ample")
        self.sample.setToolTip(
            "Synthetic fundus images by three cameras, with a model that ships. No download"
        )
        self.bar = QProgressBar()
        self.bar.hide()
        self.status = WrappingLabel()
        self.status.setToolTip("Progress, results and errors")
        self.offer = FitEncoderPanel()
        self.report = QPushButton("Save rep&ort…")
        self.report.setToolTip("Projection, distances and outlying images on one page (HTML)")
        self.report.hide()
        self.details = QPushButton("&Details…")
        self.details.setToolTip("Show the full traceback for a bug report")
        self.details.hide()
        row = QHBoxLayout()
        row.addWidget(self.extract, 2)
        row.addWidget(self.stop_button, 1)
        row.addWidget(self.sample, 2)
        layout = QVBoxLayout()
        layout.setContentsMargins(6, 0, 6, 6)
        layout.addLayout(row)
        layout.addWidget(self.bar)
        layout.addWidget(self.status)
        layout.addWidget(self.offer)
        for button in (self.report, self.details):
            layout.addWidget(button, alignment=Qt.AlignmentFlag.AlignLeft)
        return layout

    def _connect(self) -> None:
        changes = (
            self.run.changed,
            self.use_run.toggled,
            self.model.changed,
            self.own_domains.toggled,
            self.domains.changed,
            self.views.valueChanged,
        )
        for changed in changes:
            changed.connect(self._write_state)
        self.extract.clicked.connect(self.start)
        self.stop_button.clicked.connect(self.stop)
        self.sample.clicked.connect(self.start_sample)
        self.report.clicked.connect(self._on_report)
        self.offer.accepted.connect(lambda lack, domain: self._start(fit(lack, domain)))
        self.details.clicked.connect(lambda: show_traceback(self, self._traceback))
        self._state.events.connect(self._enable)

    def _write_state(self, _value: object = None) -> None:
        state, datasets = self._state, self.domains.value()
        state.run, state.use_run = self.run.path, self.use_run.isChecked()
        state.model, state.views = self.model.path, self.views.value()
        state.own_domains = self.own_domains.isChecked()
        state.datasets = None if datasets is None else tuple(datasets)
        self._enable()

    def _enable(self, _event: object = None) -> None:
        state = self._state
        lack = missing(state)
        self.extract.setEnabled(not state.extracting and not lack)
        self.extract.setToolTip(literal(lack) or "Compute the semantic vectors of every patch")
        self.sample.setEnabled(not state.extracting and bool(state.model or shipped_models()))
        self.stop_button.setEnabled(state.extracting)
        self.run.setEnabled(state.use_run)
        self.own_domains.setEnabled(state.chosen_run is not None)

    def _start(self, steps: Iterator[Any]) -> None:
        self.details.hide()
        self.offer.hide()
        self.bar.setRange(0, 1)
        self.bar.setValue(0)
        self.bar.show()
        self._state.extracting = True
        self.workers.start("extract", steps, self._on_step, title="Extracting semantic vectors")

    def _on_step(self, step: Any) -> None:
        match step:
            case Progress():
                self.status.setText(step.text)
                self.bar.setRange(0, max(1, step.total))
                self.bar.setValue(step.done)
            case FirstImage():
                self.first_image.emit(step)
            case MissingEncoder():
                self._finish("")
                self.offer.show_lack(step)
            case EncoderFitted():
                self._finish("")
                self.model.open(step.path)
                self._start(explore(replace(step.request, model=step.path)))
            case Extraction():
                self._on_extracted(step)

    def _on_extracted(self, extraction: Extraction) -> None:
        count = len(next(iter(extraction.tables.values())))
        domains, models = (_count(extraction.domains, "domain"), _count(extraction.models, "model"))
        self._finish(f"✓ {count:,} vectors of {domains} by {models}.")
        self.report.show()
        self._state.extraction = extraction

    def _on_report(self) -> None:
        file = ask_file(self, "Save the report", "HTML (*.html)")
        if file is not None:
            self.save_report(file)

    def _finish(self, text: str) -> None:
        self.workers.cancel("extract")
        self.bar.hide()
        self.status.setText(text)
        self._state.extracting = False

    def _fail(self, failure: Failure) -> None:
        self._finish("")
        self._show_failure(failure)

    def _show_failure(self, failure: Failure) -> None:
        """Show an error without stopping other workers."""
        self._traceback = failure.traceback
        self.status.setText(f"✕ {failure.sentence}")
        self.details.setVisible(bool(failure.traceback))


def _write_report(extraction: Extraction, file: Path) -> Iterator[str]:
    from src_training.reports.domains import domains_page

    title = f"{', '.join(extraction.models)} on {', '.join(extraction.domains)}"
    write_text(file, domains_page(title, extraction.tables))
    yield f"✓ Saved {file}."


def _count(things: Sized, noun: str) -> str:
    return f"1 {noun}" if len(things) == 1 else f"{len(things)} {noun}s"
