"""The Segment widget: segments image layers in a worker."""

from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from psygnal import EmissionInfo
from qtpy.QtCore import Qt
from superqt.utils import qdebounced

from napari_msankd.layers import (
    WidgetLayers,
    add_layer,
    as_labels,
    layer_by_id,
    on_undo,
    place_like,
    show_plane,
)
from napari_msankd.planes import Index
from napari_msankd.sample_data import LayerData, abdomen_ct, fundus_a
from napari_msankd.segment.calibration_dialog import CalibrationDialog
from napari_msankd.segment.figures import ResultFigures
from napari_msankd.segment.folder.dialog import FolderDialog
from napari_msankd.segment.folder.state import FolderState
from napari_msankd.segment.form import SegmentForm
from napari_msankd.segment.inference import Compatibility, Request, check, device_name
from napari_msankd.segment.live_labels import LiveLabels
from napari_msankd.segment.messages import compatibility_text, device_text, storage_note
from napari_msankd.segment.state import (
    Figure,
    Progress,
    SegmentState,
    empty_text,
    end_message,
)
from napari_msankd.settings import preferences
from napari_msankd.widgets.error_dialog import show_traceback
from napari_msankd.workers import Failure, WorkerGroup, as_failure
from src_training.errors import InputError

if TYPE_CHECKING:
    import napari

_REST_MS = 150


class SegmentWidget(SegmentForm):
    """The Segment widget: a view of its `SegmentState`, and the workers that update it.

    Parameters
    ----------
    viewer
        The viewer of the dock.

    Attributes
    ----------
    state
        The state, which the controls write and are drawn from.
    workers
        Running workers of checks and figures.
    """

    def __init__(self, viewer: "napari.viewer.Viewer") -> None:
        super().__init__(viewer)
        self.state = SegmentState()
        self.workers = WorkerGroup(self, self._fail)
        self._run: LiveLabels | None = None
        self._shown: LiveLabels | None = None
        self._checked: Request | None = None
        self._layers = WidgetLayers(viewer)
        self._check_soon = qdebounced(self._check, timeout=_REST_MS, parent=self)
        self._figures = ResultFigures(self.state, self.workers, self)
        self._connect_controls()
        self._connect_viewer()
        self.state.choose_model(self.model.path)
        self._on_image()
        self._redraw()
        self.state.events.connect(self._on_state)

    @property
    def result(self) -> Any:
        """The Labels layer of the last run with a result; None if it was removed."""
        return self._shown.layer if self._shown else None

    @property
    def running(self) -> bool:
        """Whether a segmentation is active."""
        return self.state.running

    def segment(self) -> None:
        """Segment the chosen image with the chosen model, as Run does."""
        if self.running:
            return
        try:
            request = self.state.request(self.viewer, preferences())
        except InputError as error:
            self._fail(as_failure(error))
            return
        image = layer_by_id(self.viewer, self.state.image)
        threshold = self.state.threshold if self.state.manual else None
        run = LiveLabels(self.viewer, image, request, threshold, self)
        run.started.connect(self.state.set_info)
        run.layer_added.connect(self._on_layer_added)
        run.advanced.connect(self._on_advanced)
        run.failed.connect(self._fail)
        run.ended.connect(self._on_ended)
        self._start(run)

    def continue_run(self) -> None:
        """Segment the missing slices of a stopped run, as Continue does."""
        if self.state.resumable and not self.running and self._shown is not None:
            self.state.outdate_figures()
            self._start(self._shown)

    def on_end(self) -> None:
        """Stop all workers, and restore the visibility of layers."""
        self.state.events.disconnect()
        self._check_soon.cancel()
        self._figures.stop()
        for dialog in self.findChildren(FolderDialog):
            dialog.close()
        self.workers.cancel_all()
        for run in {self._run, self._shown}:
            if run is not None:
                run.abandon()
        self.state.phase = "idle"
        self._layers.restore()

    def _connect_controls(self) -> None:
        self.image.changed.connect(self._on_image)
        self.model.changed.connect(lambda: self.state.choose_model(self.model.path))
        self.camera.valueChanged.connect(lambda _: self.state.set_angle(self.camera.angle))
        self.flips.toggled.connect(lambda on: setattr(self.state, "flips", on))
        self.slices.changed.connect(lambda: setattr(self.state, "slices", self.slices.value()))
        self.run.clicked.connect(self.segment)
        self.stop.clicked.connect(self._on_stop)
        self.resume.clicked.connect(self.continue_run)
        self.sample.clicked.connect(lambda: self._open_sample(fundus_a))
        self.sample_ct.clicked.connect(lambda: self._open_sample(abdomen_ct))
        self.details.clicked.connect(lambda: show_traceback(self, self.state.traceback))
        self.threshold.valueChanged.connect(self._on_threshold)
        self.automatic.clicked.connect(self._on_automatic)
        self.reference.changed.connect(self._on_reference)
        self.as_labels.clicked.connect(self._on_as_labels)
        self.place.clicked.connect(self._on_place)
        self.calibrate.clicked.connect(self._on_calibrate)
        self.folder.clicked.connect(self.open_folder)
        self.solid.toggled.connect(self._on_solid)
        self.curve.chosen.connect(self._on_slice_chosen)
        self.unsure.toggled.connect(self._on_unsure)

    def _connect_viewer(self) -> None:
        layers, dims = self.viewer.layers.events, self.viewer.dims.events
        self.listen(layers.inserted, self._on_layers)
        self.listen(layers.removed, self._on_layers)
        self.listen(layers.renamed, self._redraw)
        self.listen(self.viewer.events.theme, self.curve.recolor)
        self.listen(dims.order, self._on_order)
        self.listen(dims.current_step, self._on_step)
        self.listen(dims.ndisplay, self._on_ndisplay)
        events = self.state.events
        for event in (events.image, events.model, events.angle, events.flips, events.slices):
            event.connect(self._on_input)
        events.curve.connect(self._find_shown_slice)

    def _on_input(self) -> None:
        self.state.resumable = self._can_resume()
        self._check_soon()

    def _on_image(self) -> None:
        layer = self.image.layer
        self.state.choose_image(self.viewer, None if layer is None else layer.unique_id)
        self.state.find_mask(self.viewer)
        self._check_soon()

    def _on_layers(self) -> None:
        self.state.find_mask(self.viewer)
        self._redraw()

    def _on_order(self) -> None:
        self.state.follow_view(self.viewer)
        self._check_soon()

    def _on_step(self) -> None:
        self._find_shown_slice()
        if self.state.slices.part == "current":
            self._check_soon()

    def _check(self) -> None:
        """Check the compatibility of image and model."""
        state = self.state
        if state.image is None or state.model is None:
            state.compatibility = "" if empty_text(self.viewer) else "Choose an image to segment."
            device = device_name(preferences().device)
            self.workers.start("check", device, self._on_device, self._on_check_failed)
            return
        try:
            request = self._checked = state.request(self.viewer, preferences())
        except InputError as error:
            state.compatibility = f"⚠ {error}"
            return
        if state.info is None:
            state.compatibility = "Reading the model…"
        self.workers.start("check", check(request), self._on_compatibility, self._on_check_failed)

    def _on_check_failed(self, failure: Failure) -> None:
        self.state.compatibility = f"⚠ {failure.sentence}"

    def _on_compatibility(self, compatibility: Compatibility) -> None:
        self.state.set_info(compatibility.model)
        if self._checked is not None:
            self.state.compatibility = compatibility_text(compatibility, self._checked)
        self.state.device = device_text(compatibility, psutil.virtual_memory().available)

    def _on_device(self, device: str) -> None:
        self.state.device = f"Runs on {device}"

    def _start(self, run: LiveLabels) -> None:
        self._run = run
        self.state.progress = Progress(len(run.slices), len(run.request.indices))
        self._set_message("Loading the model…")
        self.state.phase = "loading"
        run.start()

    def _on_stop(self) -> None:
        if self._run is not None:
            self.state.phase = "stopping"
            self._set_message("Stopping…")
            self._run.stop()

    def _on_layer_added(self) -> None:
        """Connect threshold, reference and figures to the run, which has labels now."""
        run, former = self._run, self._shown
        if run is None or run is former:
            return
        if former is not None:
            former.retire()
        self._shown = run
        run.threshold_shown.connect(self._on_threshold_shown)
        run.changed.connect(self._on_result_changed)
        run.layer_removed.connect(self._on_layer_removed)
        self._figures.show(run)
        self.state.result = run.layer.unique_id if run.layer is not None else None
        self.state.solid, self.state.uncertainty = run.is_volume, None

    def _on_advanced(self, progress: Progress) -> None:
        self.state.progress = progress
        if self.state.phase == "loading":
            self.state.phase = "segmenting"
            self._set_message("Segmenting…")

    def _on_ended(self) -> None:
        run = self._run
        assert run is not None
        self.state.phase = "idle"
        if run is not self._shown:
            if run.stopped:
                self._set_message("Stopped; there is no result.")
            run.retire()
            self._run = None
        elif run.layer is not None and not run.failure:
            slices, of = run.slices, len(run.request.indices)
            text = end_message(run.layer.name, slices, of, run.seconds)
            folder = run.result.folder if run.result is not None else None
            self._set_message(text + storage_note(folder))
        self.state.resumable = self._can_resume()

    def _on_layer_removed(self) -> None:
        run, self._shown = self._shown, None
        self._layers.remove("uncertainty")
        self.state.result = self.state.uncertainty = None
        self.state.resumable = self.state.solid = False
        self._figures.show(None)
        if run is not None and not run.running:
            run.retire()
            if run is self._run:
                self._run = None
                self._set_message("")

    def _can_resume(self) -> bool:
        """Whether the shown run is incomplete and has the chosen image and model."""
        if (run := self._shown) is None or not run.can_resume:
            return False
        used = run.request.planes.layer_id, run.request.model
        return used == (self.state.image, self.state.model)

    def _on_threshold(self, value: float) -> None:
        self.state.manual = True
        self.state.threshold = round(value, 2)
        self._apply_threshold(self.state.threshold)

    def _on_automatic(self) -> None:
        self.state.manual = False
        if self.state.info is not None:
            self.state.threshold = self.state.info.threshold
        self._apply_threshold(None)

    def _on_threshold_shown(self, threshold: float) -> None:
        self.state.threshold = threshold

    def _apply_threshold(self, threshold: float | None) -> None:
        """Apply a threshold to the shown result and to the current run."""
        for run in {self._shown, self._run}:
            if run is not None:
                run.set_threshold(threshold)

    def _on_reference(self) -> None:
        layer = self.reference.layer
        if layer is not None and layer.unique_id != self.state.reference:
            self.listen(layer.events.paint, self._figures.reference_edited)
            self.listen(layer.events.set_data, on_undo(layer, self._figures.reference_edited))
        self.state.reference = None if layer is None else layer.unique_id
        self.state.find_mask(self.viewer)
        self._figures.compare_with(layer)

    def _on_as_labels(self) -> None:
        try:
            self.reference.layer = as_labels(self.viewer, layer_by_id(self.viewer, self.state.mask))
        except InputError as error:
            self.state.scores = Figure(f"⚠ {error}")

    def _on_place(self) -> None:
        image, reference = (layer_by_id(self.viewer, self.state.image), self.reference.layer)
        if image is not None and reference is not None:
            place_like(reference, image)
            self._figures.compare_with(reference)
            self._redraw()

    def _find_shown_slice(self) -> None:
        self.state.shown_slice = () if self._shown is None else self._shown.shown_slice

    def _on_slice_chosen(self, index: Index) -> None:
        run = self._shown
        if run is not None and run.layer is not None:
            axis = run.request.planes.axis
            show_plane(self.viewer, run.layer, run.request.place(index), axis)

    def _on_unsure(self, show: bool) -> None:
        run = self._shown
        self._layers.remove("uncertainty")
        if show and run is not None and run.layer is not None:
            data, attributes = run.uncertainty()
            layer = self._layers.add("uncertainty", data, "image", **attributes)
            self.state.uncertainty = layer.unique_id

    def _on_result_changed(self) -> None:
        layer = layer_by_id(self.viewer, self.state.uncertainty)
        if layer is not None:
            layer.refresh(extent=False)

    def _on_solid(self, solid: bool) -> None:
        """Show only the labels in 3-D; a rendered image would cover them."""
        self.viewer.dims.ndisplay = 3 if solid else 2
        if solid and self.result is not None:
            self._layers.show_only([self.result])

    def _on_ndisplay(self) -> None:
        if self.viewer.dims.ndisplay == 2:
            self._layers.restore()
        self._redraw()

    def _open_sample(self, make: Callable[[], list[LayerData]]) -> None:
        self.empty.setEnabled(False)
        self._set_message("Making the sample…")
        self.workers.start("sample", _run_once(make), self._on_sample)

    def _on_sample(self, layers: list[LayerData]) -> None:
        for layer in layers:
            add_layer(self.viewer, *layer)
        self.viewer.layers.selection = {self.viewer.layers[0]}
        self.empty.setEnabled(True)
        self._set_message("")

    def _on_calibrate(self) -> None:
        if self.state.model is None:
            self._fail(Failure("Select a model first, or use Model > Open model file…"))
            return
        dialog = CalibrationDialog(
            self.viewer, self.state.model, self.state.angle, preferences(), self
        )
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.calibrated.connect(self._on_calibrated)
        dialog.show()

    def open_folder(self) -> FolderDialog:
        """Open Segment folder with the chosen model and camera."""
        state = self.state
        chosen = FolderState(model=state.model, angle=state.angle, flips=state.flips)
        dialog = FolderDialog(self.viewer, chosen, preferences(), self)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.show()
        return dialog

    def _on_calibrated(self, file: Path) -> None:
        self.model.open(file)
        self._set_message(f"✓ {file.name} is chosen; Run segments with it.")

    def _set_message(self, text: str) -> None:
        self.state.traceback = ""
        self.state.message = text

    def _fail(self, failure: Failure) -> None:
        self.state.traceback = failure.traceback
        self.state.message = f"✕ {failure.sentence}"

    def _on_state(self, change: EmissionInfo) -> None:
        if change.signal.name == "progress":
            self.draw_run(self.state)
        else:
            self._redraw()

    def _redraw(self, _event: object = None) -> None:
        self.draw(self.state)


def _run_once(make: Callable[[], list[LayerData]]) -> Generator[list[LayerData], None, None]:
    yield make()
