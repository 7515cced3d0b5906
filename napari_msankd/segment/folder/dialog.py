"""The Segment folder dialog: choices, progress, and review of the results."""

from collections.abc import Generator
from itertools import count
from threading import Event
from typing import TYPE_CHECKING, Any

from magicgui.widgets import FileEdit
from qtpy.QtCore import QModelIndex, QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import (
    QCheckBox,
    QDialog,
    QFormLayout,
    QHBoxLayout,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_msankd.layers import WidgetLayers, placement
from napari_msankd.segment.folder.state import FolderRequest, FolderState
from napari_msankd.segment.folder.steps import (
    FileStep,
    FolderEnd,
    OpenedFile,
    open_entry,
    segment_folder,
)
from napari_msankd.segment.folder.table import EntryTable
from napari_msankd.settings import Preferences
from napari_msankd.widgets.camera_angle import CameraAngle
from napari_msankd.widgets.error_dialog import show_traceback
from napari_msankd.widgets.layout import make_primary
from napari_msankd.widgets.model_combo import ModelCombo
from napari_msankd.widgets.wrapping_label import WrappingLabel
from napari_msankd.workers import Failure, WorkerGroup, as_failure
from src_training.errors import InputError

if TYPE_CHECKING:
    from napari.components import ViewerModel

_STEPS = 1000


class FolderDialog(QDialog):
    """Segment every image, stack and volume of a folder, and review the results.

    A view of its `state`. Closing it stops the run; the next one resumes it.

    Parameters
    ----------
    viewer
        The viewer that images and labels are opened in.
    state
        Initial state, with the choices of the Segment widget.
    preferences
        Provides the device.
    parent
        Qt parent.
    """

    def __init__(
        self, viewer: "ViewerModel", state: FolderState, preferences: Preferences, parent: QWidget
    ) -> None:
        super().__init__(parent)
        self.viewer, self.state, self._preferences = viewer, state, preferences
        self.workers = WorkerGroup(self, self._fail)
        self._request: FolderRequest | None = None
        self._stop = Event()
        self._layers = WidgetLayers(viewer)
        self._opened: tuple[str, int] | None = None
        self._serial = count()
        self.setWindowTitle("Segment a folder")
        self.resize(580, 600)
        layout = QVBoxLayout(self)
        layout.addLayout(self._choices())
        layout.addLayout(self._buttons())
        self.bar = QProgressBar()
        self.bar.setRange(0, _STEPS)
        self.bar.setToolTip("How many files are done, and about how long the rest takes")
        self.status = WrappingLabel()
        self.details = QPushButton("&Details…")
        self.details.setToolTip("Show the full traceback for a bug report")
        self.table = EntryTable()
        for part in (self.bar, self.status, self.details):
            layout.addWidget(part)
        layout.addWidget(self.table, 1)
        make_primary(self.start, viewer)
        self._connect()
        self._draw()
        state.events.connect(self._draw)

    def end(self) -> None:
        """Stop the run and all workers; finished files stay on the disk."""
        self._stop.set()
        self.workers.cancel_all()
        self.state.phase = "idle"

    def _choices(self) -> QFormLayout:
        self.folder = FileEdit(mode="d", nullable=True, value=self.state.folder)
        self.folder.tooltip = "Folder of images, stacks or volumes; subfolders are not read"
        self.out = FileEdit(mode="d", nullable=True, value=self.state.out)
        self.out.tooltip = "Folder for the labels, a table, a page with thumbnails and a list"
        self.model = ModelCombo()
        self.model.setToolTip("Segmentation model. Choose “Open model file…” to load your own")
        if self.state.model is not None:
            self.model.open(self.state.model)
        self.camera = CameraAngle()
        self.camera.setValue(self.state.angle or 0)
        self.flips = QCheckBox("Average over &flips")
        self.flips.setToolTip("Average over four flips: slightly more accurate, four times slower")
        self.flips.setChecked(self.state.flips)
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        for title, control in (
            ("F&older", self.folder.native),
            ("Out&put", self.out.native),
            ("&Model", self.model),
            ("&Camera", self.camera),
            ("", self.flips),
        ):
            form.addRow(title, control)
        return form

    def _buttons(self) -> QHBoxLayout:
        self.start = QPushButton("&Start")
        self.start.setToolTip("Segment what is not done yet; files that have changed are redone")
        self.stop = QPushButton("S&top")
        self.stop.setToolTip("Stop after the current file; Start resumes")
        self.report = QPushButton("Open &report")
        self.report.setToolTip("Open the page with thumbnails of all results in the browser")
        row = QHBoxLayout()
        for button, share in ((self.start, 3), (self.stop, 1), (self.report, 1)):
            button.setAutoDefault(False)
            row.addWidget(button, share)
        return row

    def _connect(self) -> None:
        self.folder.changed.connect(self._on_folder)
        self.out.changed.connect(lambda path: setattr(self.state, "out", path))
        self.model.changed.connect(lambda: setattr(self.state, "model", self.model.path))
        self.camera.valueChanged.connect(lambda _: setattr(self.state, "angle", self.camera.angle))
        self.flips.toggled.connect(lambda on: setattr(self.state, "flips", on))
        self.start.clicked.connect(self.begin)
        self.stop.clicked.connect(self._on_stop)
        self.report.clicked.connect(self._on_report)
        self.details.clicked.connect(lambda: show_traceback(self, self.state.traceback))
        self.table.clicked.connect(self._on_row)
        self.table.activated.connect(self._on_row)
        self.finished.connect(self.end)

    def begin(self) -> None:
        """Segment the files that are not done yet, as Start does."""
        state = self.state
        try:
            request = self._request = state.request(self._preferences.device)
        except InputError as error:
            self._fail(as_failure(error))
            return
        self._stop = Event()
        self.table.clear()
        state.report, state.traceback = None, ""
        state.message, state.phase = "Loading the model…", "running"
        steps: Generator[Any, None, None] = segment_folder(request, self._stop.is_set)  # type: ignore[assignment]
        title = f"Segmenting {request.folder.name!r}"
        self.workers.start("segment", steps, self._on_step, title=title)

    def _on_folder(self, folder: Any) -> None:
        if folder is not None:
            self.state.choose_folder(folder)

    def _on_step(self, step: FileStep | FolderEnd) -> None:
        state = self.state
        if isinstance(step, FolderEnd):
            state.phase, state.message, state.report = "idle", str(step), step.report
            return
        self.table.add(step.entry)
        if state.phase == "running":
            state.message = "Segmenting…"
        state.progress = step.progress

    def _on_stop(self) -> None:
        self._stop.set()
        self.state.phase, self.state.message = "stopping", "Stopping after the current file…"

    def _on_report(self) -> None:
        if self.state.report is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self.state.report)))

    def _on_row(self, index: QModelIndex) -> None:
        entry, request = self.table.entry(index), self._request
        if request is None or self._show_opened(entry.triaged.file):
            return
        steps: Generator[Any, None, None] = open_entry(entry, request)  # type: ignore[assignment]
        self.workers.start("open", steps, self._on_opened, self._on_open_failed)

    def _show_opened(self, file: str) -> bool:
        """Select the layers of a file if they are still open; return whether they are."""
        if self._opened is None or self._opened[0] != file:
            return False
        layers = [self._layers.get((kind, self._opened)) for kind in ("labels", "image")]
        layer = next((layer for layer in layers if layer is not None), None)
        if layer is not None:
            self.viewer.layers.selection.active = layer
        return layer is not None

    def _on_opened(self, opened: OpenedFile) -> None:
        """Show a file; its layers replace those of the former file, unless they were edited."""
        if self._opened is not None:
            for kind in ("labels", "image"):
                self._layers.remove((kind, self._opened))
        # The serial number makes keys unique if a file is opened again beside its edited labels.
        self._opened = key = (opened.entry.triaged.file, next(self._serial))
        pixels, attributes = opened.image
        image = self._layers.add(("image", key), pixels, "image", **attributes)
        if opened.labels is not None:
            values, attributes = opened.labels
            place = placement(image)
            labels = self._layers.add(("labels", key), values, "labels", **attributes, **place)
            labels.events.paint.connect(self._on_paint)

    def _on_paint(self) -> None:
        self._opened = None

    def _on_open_failed(self, failure: Failure) -> None:
        self.state.traceback, self.state.message = failure.traceback, f"✕ {failure.sentence}"

    def _fail(self, failure: Failure) -> None:
        self._on_open_failed(failure)
        self.state.phase = "idle"

    def _draw(self, _event: object = None) -> None:
        state = self.state
        for control in (self.folder, self.out):
            control.enabled = not state.running
        for part in (self.model, self.camera, self.flips, self.start):
            part.setEnabled(not state.running)
        for edit, path in ((self.folder, state.folder), (self.out, state.out)):
            if edit.value != path:
                with edit.changed.blocked():
                    edit.value = path
        self.stop.setEnabled(state.phase == "running")
        self.report.setEnabled(state.report is not None)
        self.bar.setVisible(state.progress.total > 0)
        self.bar.setValue(round(_STEPS * state.progress.done / max(1, state.progress.total)))
        self.bar.setFormat(str(state.progress))
        self.status.setText(state.message)
        self.details.setVisible(bool(state.traceback))
