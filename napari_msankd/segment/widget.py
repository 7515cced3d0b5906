"""Segment: opened layers become labels, tile by tile, with the window free."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from qtpy.QtCore import Qt, QTimer

from napari_msankd.formatting import compatibility_text, duration, place, storage_note
from napari_msankd.layers import planes_of, shown_index
from napari_msankd.sample_data import fundus_a
from napari_msankd.segment.calibration_dialog import CalibrationDialog
from napari_msankd.segment.form import SegmentForm
from napari_msankd.segment.inference import Compatibility, ModelInfo, Request, find, look
from napari_msankd.segment.live_labels import Run, recorded_angle
from napari_msankd.segment.metrics import Scores, compare
from napari_msankd.segment.volume_measure import measurable, measure, said
from napari_msankd.settings import preferences
from napari_msankd.widgets.error_dialog import show_traceback
from napari_msankd.workers import Failure, WorkerGroup, as_failure
from src_training.errors import InputError

if TYPE_CHECKING:
    import napari

_REST_MS = 150


class SegmentWidget(SegmentForm):
    """The Segment widget.

    Parameters
    ----------
    viewer
        The viewer it is docked in.
    """

    def __init__(self, viewer: "napari.viewer.Viewer") -> None:
        super().__init__(viewer)
        self._run: Run | None = None
        self._shown: Run | None = None
        self.workers = WorkerGroup(self, self._fail)
        self._asked: Request | None = None
        self._traceback = ""
        self._threshold_of: Path | None = None
        self._model_threshold = 0.5
        self._knows_angle = False
        self._by_hand = False
        self._look_soon = self._soon(self._look)
        self._score_soon = self._soon(self._score)
        self._measure_soon = self._soon(self._measure)
        self._connect()
        self._on_image()

    @property
    def result(self) -> Any:
        """The Labels layer of the last run that gave one; None if it is gone."""
        return self._shown.layer if self._shown else None

    @property
    def running(self) -> bool:
        """Whether a segmentation is under way."""
        return self._run is not None and self._run.running

    def segment(self) -> None:
        """Segment the chosen image with the chosen model; what Run does."""
        if self.running:
            return
        try:
            request = self._request()
        except InputError as error:
            self._fail(as_failure(error))
            return
        by_hand = self._by_hand and self._threshold_of == request.model
        threshold = round(self.number.value(), 2) if by_hand else None
        self._run = Run(self.viewer, self.image.layer, request, threshold, self)
        self._run.began.connect(self._on_model)
        self._run.advanced.connect(self._on_advanced)
        self._run.failed.connect(self._fail)
        self._run.ended.connect(self._on_ended)
        self._say("Loading the model…")
        self.progress.setRange(0, 0)
        self._set_running(True)
        self._run.start()

    def on_end(self) -> None:
        """Stop whatever is under way."""
        if self._run:
            self._run.stop()
        self.workers.cancel_all()
        for timer in (self._look_soon, self._score_soon, self._measure_soon):
            timer.stop()

    def _connect(self) -> None:
        self.image.changed.connect(self._on_image)
        self.model.changed.connect(self._on_choice_of_model)
        self.camera.valueChanged.connect(self._look_soon.start)
        self.flips.toggled.connect(self._look_soon.start)
        self.slices.changed.connect(self._look_soon.start)
        self.run.clicked.connect(self.segment)
        self.stop.clicked.connect(self._on_stop)
        self.sample.clicked.connect(self._open_sample)
        self.details.clicked.connect(lambda: show_traceback(self, self._traceback))
        self.slider.valueChanged.connect(lambda value: self.number.setValue(value / 100))
        self.number.valueChanged.connect(self._on_threshold)
        self.own_threshold.clicked.connect(self._on_own_threshold)
        self.reference.changed.connect(self._score_soon.start)
        self.tune.clicked.connect(self._on_tune)
        self.solid.toggled.connect(self._on_solid)
        self.listen(self.viewer.dims.events.ndisplay, self._on_ndisplay)

    def _request(self) -> Request:
        image, model = self.image.layer, self.model.path
        if image is None:
            raise InputError("No image layer is open; expected one to segment")
        if model is None:
            raise InputError("No model is chosen; expected one, see Model > Open model file…")
        axis = self.slices.along if image.ndim == 3 else 0
        planes, shown = planes_of(image, axis), shown_index(self.viewer, image, axis)
        chosen = preferences()
        return Request(
            planes,
            self.slices.part(planes.slicing, shown),
            shown,
            model,
            self.flips.isChecked(),
            self.camera.angle if self._photograph else None,
            chosen.device,
            chosen.memory_limit,
            chosen.cache,
        )

    def _on_image(self) -> None:
        layer = self.image.layer
        self.empty.setVisible(layer is None)
        self.run.setEnabled(layer is not None and not self.running)
        self.slices.follow(layer)
        if layer is not None:
            # One camera takes many photographs: its angle stays, unless another was recorded.
            self.camera.setValue(recorded_angle(self.viewer, layer, self.camera.value()))
        self._offer_camera()
        if not self.running:
            self._say("")
        self._look_soon.start()

    def _on_choice_of_model(self) -> None:
        # Another model may know nothing of cameras.
        self.camera.setValue(0)
        self._look_soon.start()

    def _look(self) -> None:
        """Ask the model what it thinks of the image; needs no run."""
        if self.image.layer is None or self.model.path is None:
            self.outlook.setText("")
            self.workers.start("look", find(preferences().device), self._on_device, self._on_doubt)
            return
        try:
            request = self._asked = self._request()
        except InputError as error:
            self.outlook.setText(f"⚠ {error}")
            return
        self.outlook.setText("Reading the model…")
        self.workers.start("look", look(request), self._on_outlook, self._on_doubt)

    def _on_doubt(self, failure: Failure) -> None:
        self.outlook.setText(f"⚠ {failure.sentence}")

    def _on_outlook(self, outlook: Compatibility) -> None:
        self._on_model(outlook.about)
        if self._asked is not None:
            self.outlook.setText(compatibility_text(outlook, self._asked))
        self.device.setText(place(outlook, psutil.virtual_memory().available))

    def _on_device(self, device: str) -> None:
        self.device.setText(f"Runs on {device}")

    def _on_model(self, about: ModelInfo) -> None:
        two = len(about.classes) == 2
        self.slider.setEnabled(two)
        self.number.setEnabled(two)
        self._knows_angle = about.knows_angle
        self._offer_camera()
        self._model_threshold = about.threshold
        if self._threshold_of != self.model.path:
            self._threshold_of = self.model.path
            self._set_by_hand(False)
            self._show_threshold(about.threshold)

    def _offer_camera(self) -> None:
        """Ask for the camera where the model knows its own, and the image is a photograph."""
        self.choices.setRowVisible(self.camera, self._knows_angle and self._photograph)

    @property
    def _photograph(self) -> bool:
        layer = self.image.layer
        return layer is not None and (layer.rgb or layer.ndim == 2)

    def _on_threshold(self, value: float) -> None:
        self._show_threshold(value)
        self._set_by_hand(True)
        self._cut(round(value, 2))

    def _on_own_threshold(self) -> None:
        self._set_by_hand(False)
        self._show_threshold(self._model_threshold)
        self._cut(None)

    def _cut(self, threshold: float | None) -> None:
        """Cut what is in sight, and what is to come."""
        for run in {self._shown, self._run}:
            if run is not None:
                run.set_threshold(threshold)

    def _set_by_hand(self, by_hand: bool) -> None:
        self._by_hand = by_hand
        self.own_threshold.setEnabled(by_hand)

    def _show_threshold(self, value: float) -> None:
        """Show a threshold that is in force already."""
        for control, shown in ((self.slider, round(value * 100)), (self.number, value)):
            control.blockSignals(True)
            control.setValue(shown)
            control.blockSignals(False)

    def _take_over(self, run: Run) -> None:
        """Let slider, reference and figures be about a run that has come to its labels."""
        if self._shown is not None:
            self._shown.retire()
        self._shown = run
        run.cut.connect(self._show_threshold)
        run.changed.connect(self._score_soon.start)
        run.changed.connect(self._measure_soon.start)
        run.lost.connect(self._on_lost)
        self._clear_figures()

    def _on_advanced(self, done: int, total: int) -> None:
        if self._run is not None and self._run is not self._shown:
            self._take_over(self._run)
        self.progress.setRange(0, total)
        self.progress.setValue(done)
        left = self._run.seconds / done * (total - done) if self._run else 0
        self.progress.setFormat(f"{done} of {total} tiles · {duration(left)} left")
        self._say("Segmenting…")

    def _on_stop(self) -> None:
        if self._run:
            self._run.stop()
            self.stop.setEnabled(False)
            self._say("Stopping at the next tile…")

    def _on_ended(self) -> None:
        run = self._run
        assert run is not None
        self._set_running(False)
        took = duration(run.seconds)
        if run is not self._shown:
            if run.stopped:
                self._say("Stopped; there is no result to keep.")
            run.retire()
            self._run = None
        elif run.stopped:
            self._say(f"Stopped after {run.done} of {run.total} tiles; what is done is kept.")
        elif run.layer is not None and run.done == run.total:
            self._say(f"✓ {run.layer.name!r} is ready, in {took}.{storage_note(run.folder)}")

    def _on_lost(self) -> None:
        run, self._shown = self._shown, None
        self._clear_figures()
        if run is not None and not run.running:
            run.retire()
            if run is self._run:
                self._run = None
                self._say("")

    def _clear_figures(self) -> None:
        """Take away what was counted of a result, and what is being counted."""
        for figure in ("score", "measure"):
            self.workers.cancel(figure)
        self.scores.clear()
        self.volumes.clear()
        self.solid.setVisible(False)

    def _set_running(self, running: bool) -> None:
        self.run.setEnabled(not running and self.image.layer is not None)
        self.stop.setEnabled(running)
        self.progress.setVisible(running)
        for control in (self.image, self.model, self.camera, self.flips, self.slices):
            control.setEnabled(not running)

    def _score(self) -> None:
        self.workers.cancel("score")
        reference, run = self.reference.layer, self._shown
        if reference is None or run is None or run.layer is None or run.result is None:
            self.scores.setText("")
            return
        if reference == run.layer:
            self.scores.setText("The reference is the result itself; choose another layer.")
            return
        try:
            what = run.compared_with(reference)
        except InputError as error:
            self.scores.setText(f"⚠ {error}")
            return
        self.workers.start("score", compare(what), self._on_scores, self._on_score_failed)

    def _on_scores(self, scores: Scores | None) -> None:
        if scores is not None:
            self.scores.setText(str(scores))

    def _on_score_failed(self, failure: Failure) -> None:
        self.scores.setText(f"⚠ {failure.sentence}")

    def _measure(self) -> None:
        """Say how large each class is, where the layer is a volume with lengths."""
        self.workers.cancel("measure")
        run = self._shown
        if run is None or run.layer is None or run.about is None or not run.request.planes.volume:
            return
        self.solid.setVisible(run.layer.ndim == 3 and min(run.layer.data.shape) > 1)
        what = measurable(run.layer, run.about.classes)
        if what is not None:
            self.workers.start("measure", measure(what), self._on_volumes)

    def _on_volumes(self, volumes: dict[str, float] | None) -> None:
        if volumes is not None:
            self.volumes.setText(said(volumes))

    def _on_solid(self, solid: bool) -> None:
        """Show the labels as a body: the image's brightest voxels would lie over it."""
        self.viewer.dims.ndisplay = 3 if solid else 2
        if self._shown is not None and self._shown.image in self.viewer.layers:
            self._shown.image.visible = not solid

    def _on_ndisplay(self) -> None:
        self.solid.blockSignals(True)
        self.solid.setChecked(self.viewer.dims.ndisplay == 3)
        self.solid.blockSignals(False)

    def _open_sample(self) -> None:
        self.sample.setEnabled(False)
        self._say("Making a sample…")
        self.workers.start("sample", _samples(), self._on_sample)

    def _on_sample(self, layers: list[Any]) -> None:
        from napari.layers import Layer

        for layer in layers:
            self.viewer.add_layer(Layer.create(*layer))
        self.sample.setEnabled(True)
        self._say("")

    def _on_tune(self) -> None:
        if self.model.path is None:
            self._fail(Failure("No model is chosen; expected one to tune"))
            return
        dialog = CalibrationDialog(
            self.viewer, self.model.path, self.camera.angle, preferences().device, self
        )
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.tuned.connect(self._on_tuned)
        dialog.show()

    def _on_tuned(self, file: Path) -> None:
        angle = self.camera.value()
        self.model.open(file)
        # The scanner is the same, whose angle was told.
        self.camera.setValue(angle)
        self._say(f"✓ {file.name} is chosen; Run segments with it.")

    def _say(self, words: str) -> None:
        self.status.setText(words)
        self.details.setVisible(False)

    def _fail(self, failure: Failure) -> None:
        self._say(f"✕ {failure.sentence}")
        self._traceback = failure.traceback
        self.details.setVisible(bool(failure.traceback))

    def _soon(self, slot: Any) -> QTimer:
        timer = QTimer(self)
        timer.setSingleShot(True)
        timer.setInterval(_REST_MS)
        timer.timeout.connect(slot)
        return timer


def _samples() -> Iterator[list[Any]]:
    """Make the sample, once."""
    yield fundus_a()
