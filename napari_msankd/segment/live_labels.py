"""One segmentation: its worker, its Labels layer, and the provenance in its metadata."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QCoreApplication, QObject, Signal

from napari_msankd.layers import add_layer, on_undo, painted_planes, placement, shown_index
from napari_msankd.planes import Index
from napari_msankd.readers import VOLUME
from napari_msankd.segment.inference import ModelInfo, Request, Started, Step, segment
from napari_msankd.segment.metrics import Comparison, Scores, comparison
from napari_msankd.segment.probability_store import Result, Uncertainty
from napari_msankd.segment.provenance import class_attributes, provenance
from napari_msankd.segment.quality import ResultQuality, assess
from napari_msankd.segment.state import Progress
from napari_msankd.theme import uncertainty_colormap
from napari_msankd.workers import Failure, Worker, timer
from src_training.inference.forward_progress import ForwardProgress

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

_REDRAW_MS = 100
_PROGRESS_MS = 250
"""Interval of progress updates; each redraws the whole window, which is slow without a GPU."""
_THRESHOLD_SECONDS = 0.015


class LiveLabels(QObject):
    """A segmentation, and its result afterwards.

    Parameters
    ----------
    viewer, image
        The viewer that gets the labels, and the image layer.
    request
        What to segment.
    threshold
        Foreground threshold on the probability; the model's if None.
    parent
        Qt parent.

    Attributes
    ----------
    layer
        The labels; None before the first tile and after their removal.
    result, model
        Arrays of the result and metadata of the model; None until they are loaded.
    stopped, failure, running
        Whether the user stopped it, whether it failed, and whether it is active.
    started
        Emitted with `ModelInfo` when the model is loaded.
    layer_added
        Emitted when the labels were added to the viewer.
    advanced
        Emitted with `Progress`.
    failed
        Emitted with a `Failure`.
    ended
        Emitted once for each `start`, after success, failure or stop.
    threshold_shown
        Emitted with the threshold of the plane in view, if each plane has its own.
    outdated
        Emitted when the labels start to change.
    changed
        Emitted when a change of the labels is complete.
    layer_removed
        Emitted when the layer was removed from the viewer.
    """

    started = Signal(object)
    layer_added = Signal()
    advanced = Signal(object)
    failed = Signal(object)
    ended = Signal()
    threshold_shown = Signal(float)
    outdated = Signal()
    changed = Signal()
    layer_removed = Signal()

    def __init__(
        self,
        viewer: "ViewerModel",
        image: "Image",
        request: Request,
        threshold: float | None,
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self.request = request
        self.layer: Labels | None = None
        self.result: Result | None = None
        self.model: ModelInfo | None = None
        self.stopped = self.failure = self.running = False
        self._viewer = viewer
        self._placement = placement(image, request.offset)
        self._volume = {key: image.metadata[key] for key in (VOLUME,) if key in image.metadata}
        self._threshold = threshold
        self._painted: set[Index] = set()
        self._edited = self._removed = self._retired = False
        self._applying: Iterator[None] | None = None
        self._apply_timer = timer(self, self._apply_some, single_shot=False)
        self._redraw = timer(self, self._show, _REDRAW_MS)
        self._poll = timer(self, self._emit_progress, _PROGRESS_MS, single_shot=False)
        self._record = provenance(request)
        self._seconds = 0.0
        self._progress = Progress(of=len(request.indices))
        viewer.layers.events.removed.connect(self._on_removed)
        viewer.dims.events.current_step.connect(self._emit_threshold)

    def start(self) -> None:
        """Start, or continue with the missing planes of a stopped run."""
        self.stopped, self.failure, self.running = False, False, True
        self._passes = ForwardProgress()
        self._clock, self._first_layer = time.monotonic(), 0.0
        skip = frozenset(self._painted)
        steps = segment(self.request, self._threshold, self._passes, self.result, skip)
        title = f"Segmenting {self.request.planes.name!r}"
        self._worker = Worker(steps, self, title)  # type: ignore[arg-type]
        self._worker.yielded.connect(self._on_step)
        self._worker.failed.connect(self._on_failed)
        self._worker.finished.connect(self._on_finished)
        self._poll.start()
        self._worker.start()

    def stop(self) -> None:
        """Stop at the next layer of the network; complete planes are kept."""
        if self.running:
            self.stopped = True
            self._passes.cancel()
            self._worker.quit()

    def abandon(self) -> None:
        """Stop, and update the record at once instead of when the worker ends."""
        self.blockSignals(True)
        if self.running:
            self.stop()
            self._worker.cancel()
            self._on_finished()
        if self._apply_timer.isActive():
            # Let the timer apply the threshold to all planes, although the widget is deleted.
            self.setParent(QCoreApplication.instance())
        self.retire()

    def retire(self) -> None:
        """Emit no more signals, and delete this object once the threshold is applied."""
        if self._retired:
            return
        self.blockSignals(True)
        self._viewer.layers.events.removed.disconnect(self._on_removed)
        self._viewer.dims.events.current_step.disconnect(self._emit_threshold)
        self._retired = True
        if not self._apply_timer.isActive():
            self.deleteLater()

    @property
    def pending(self) -> list[Index]:
        """Planes of the result that neither the model nor the user has labelled."""
        if self.result is None:
            return [self.request.place(index) for index in self.request.indices]
        done = self.result.finished | self._painted
        places = map(self.request.place, self.request.indices)
        return [place for place in places if place not in done]

    @property
    def slices(self) -> list[Index]:
        """Complete planes of the image, sorted."""
        finished = set() if self.result is None else self.result.finished
        return sorted(i for i in self.request.indices if self.request.place(i) in finished)

    @property
    def shown_slice(self) -> Index:
        """Index in the image of the displayed plane of the labels."""
        return tuple(
            step + part.start for step, part in zip(self._shown(), self.request.part, strict=True)
        )

    @property
    def can_resume(self) -> bool:
        """Whether it was stopped with missing planes."""
        return self.stopped and not self.running and self.layer is not None and bool(self.pending)

    @property
    def is_volume(self) -> bool:
        """Whether the labels are a volume of more than one slice."""
        shape = self.request.slicing.shape
        return self.request.planes.volume and len(shape) == 3 and min(shape) > 1

    @property
    def seconds(self) -> float:
        """Duration without pauses."""
        return self._seconds + (time.monotonic() - self._clock if self.running else 0)

    def set_threshold(self, threshold: float | None) -> None:
        """Apply a threshold to the stored probabilities; None means the automatic one.

        If the user edited the labels, the new ones go to a new layer.
        """
        self._threshold = threshold
        if self.result is None or self.model is None:
            return
        if self.result.foreground is None or self._removed:
            return
        replaced = self.layer is not None and self.layer.data is not self.result.labels
        if self.layer is not None and (self._edited or replaced):
            self.result.detach()
            self._painted.clear()
            self._add_layer()
        value = self.model.fixed_threshold if threshold is None else threshold
        self._applying = self.result.rethreshold(value, self._shown())
        self.outdated.emit()
        self._apply_timer.start()
        self._apply_some()
        self._record_threshold()
        self._emit_threshold()

    def compared_with(self, reference: "Labels") -> Comparison:
        """The current labels and a reference, on the complete planes.

        Raises
        ------
        InputError
            As `comparison`.
        """
        assert self.layer is not None and self.result is not None and self.model is not None
        classes = len(self.model.classes)
        return comparison(self.layer, reference, self.request, self.result.finished, classes)

    def _on_step(self, step: Started | Step) -> None:
        if isinstance(step, Started):
            self._on_started(step)
            return
        if self._removed:
            return
        if self.layer is None:
            self._add_layer()
        self._emit_progress(step.done)
        self._emit_threshold()
        if not self._redraw.isActive():
            self._redraw.start()

    def _on_failed(self, failure: Failure) -> None:
        self.failure = True
        self.failed.emit(failure)

    def _on_started(self, step: Started) -> None:
        self.model, self.result = step.model, step.result
        if self._threshold is not None:
            self.result.threshold = self._threshold
        model = step.model
        self._write({"model": model.name, "model_sha256": model.sha256, "device": model.device})
        if model.angle is None:
            self._write({"angle_degrees": None})
        self._record_threshold()
        self.started.emit(step.model)

    def _emit_progress(self, slices: int | None = None) -> None:
        """Emit the progress; within a tile it is measured by layers of the network."""
        now, former = time.monotonic(), self._progress
        part = self._passes.fraction
        if not self._first_layer and (part or slices):
            self._first_layer = now
        if not self._first_layer:
            return
        done = former.slices if slices is None else slices
        fraction = max(former.fraction, min(1.0, (done + part) / former.of))
        self._progress = Progress(done, former.of, fraction, now - self._first_layer)
        self.advanced.emit(self._progress)

    def _add_layer(self) -> None:
        assert self.result is not None and self.model is not None
        self._edited = False
        attributes = {
            **class_attributes(self.request.planes.name, self.model.classes),
            "metadata": {"msankd": dict(self._record), **self._volume},
            "multiscale": False,
            **self._placement,
        }
        self.layer = add_layer(self._viewer, self.result.labels, attributes, "labels")
        self.layer.events.paint.connect(self._on_paint)
        self.layer.events.set_data.connect(on_undo(self.layer, self._on_edited))
        self.layer_added.emit()

    def _on_paint(self, event: Any) -> None:
        """Record the painted planes, which a continued run does not overwrite."""
        stack = self.request.slicing.stack
        axes = [self.request.planes.axis] if len(stack) == 1 else range(len(stack))
        for change in event.value:
            self._painted |= painted_planes(change, axes)
        self._on_edited()

    def _on_edited(self) -> None:
        self._edited = True
        self.outdated.emit()
        self.changed.emit()

    def _on_finished(self) -> None:
        self._poll.stop()
        self._seconds, self.running = self.seconds, False
        self._record_threshold()
        complete = self.result is not None and not self.pending
        slices = [i[0] if len(i) == 1 else list(i) for i in self.slices if i]
        seconds = round(self._seconds, 3)
        self._write({"seconds": seconds, "complete": complete, "slices": slices})
        self._show()
        self.ended.emit()
        self.changed.emit()

    def _record_threshold(self) -> None:
        """Record the threshold, and that of each complete plane."""
        if self.result is None or self.result.foreground is None:
            return
        places = [self.request.place(index) for index in self.slices]
        thresholds = [self.result.threshold_at(place) for place in places]
        fixed = self.result.threshold
        single = thresholds[0] if fixed is None and len(thresholds) == 1 else fixed
        self._write({"threshold": single, "thresholds": thresholds})

    def assess(self) -> "Iterator[ResultQuality | None]":
        """The expected Dice of the complete slices; for a worker."""
        assert self.result is not None and self.model is not None
        slices = {index: self.request.place(index) for index in self.slices}
        return assess(self.result, slices, self.model, self.request.planes.volume)

    def uncertainty(self) -> tuple[Uncertainty, dict[str, Any]]:
        """Data and attributes of an image layer of the model's uncertainty."""
        assert self.layer is not None and self.result is not None
        origin = {"uncertainty_of": self.layer.name, "result_id": str(self.layer.unique_id)}
        return Uncertainty(self.result), {
            "name": f"{self.layer.name} uncertainty",
            "metadata": {"msankd": {**self._record, **origin}},
            "rgb": False,
            "multiscale": False,
            "contrast_limits": (0, 0.5),
            "colormap": uncertainty_colormap(),
            "blending": "translucent_no_depth",
            **placement(self.layer),
        }

    def write_quality(self, quality: ResultQuality) -> None:
        """Store expected Dice in the record and the features of the layer."""
        self._write(quality.record())
        if self.layer is not None:
            features = self.layer.features.copy()
            for title, column in quality.features().items():
                features[title] = column
            self.layer.features = features

    def write_scores(self, scores: Scores | None, reference: str = "") -> None:
        """Store the scores against a reference in the record of the layer, or clear them."""
        self._write({"reference": None if scores is None else scores.record(reference)})

    def _write(self, values: dict[str, Any]) -> None:
        """Update the record; the layer gets a new dict, because duplicates share the old one."""
        self._record |= values
        if self.layer is not None:
            self.layer.metadata["msankd"] = dict(self._record)

    def _emit_threshold(self) -> None:
        if self.result is not None and self.result.threshold is None:
            self.threshold_shown.emit(self.result.threshold_at(self._shown()))

    def _on_removed(self, event: Any) -> None:
        # Compare with ==, because plugins get layers through a proxy.
        if self.layer is not None and event.value == self.layer:
            self._removed = True
            self.stop()
            self._apply_timer.stop()
            self._redraw.stop()
            self.layer = None
            self.layer_removed.emit()

    def _apply_some(self) -> None:
        """Apply the threshold to more planes, within a small time budget."""
        deadline = time.monotonic() + _THRESHOLD_SECONDS
        for _ in self._applying or ():
            if time.monotonic() > deadline:
                break
        else:
            self._apply_timer.stop()
            self.changed.emit()
            if self._retired:
                self.deleteLater()
        self._show()

    def _show(self) -> None:
        if self.layer is not None:
            self.layer.refresh(extent=False)

    def _shown(self) -> Index:
        """Index in the result of the displayed plane, or of the nearest one."""
        if self.layer is None:
            return self.request.place(self.request.indices[0])
        return shown_index(self._viewer, self.layer, self.request.planes.axis)
