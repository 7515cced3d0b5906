"""One segmentation: a worker, the layer it fills, and the record of how it was made."""

import copy
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer, Signal

from napari_msankd.layers import Index, placement, shown_index
from napari_msankd.readers import VOLUME
from napari_msankd.segment.inference import ModelInfo, Request, Started, Tile, segment
from napari_msankd.segment.metrics import Comparison, comparison
from napari_msankd.segment.probability_store import Result
from napari_msankd.theme import label_colormap
from napari_msankd.workers import Worker

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

_REDRAW_MS = 100
_CUT_BUDGET = 0.015


class Run(QObject):
    """A segmentation under way, and its result afterwards.

    Parameters
    ----------
    viewer, image
        Where the labels go, and the layer that they lie over.
    request
        What is segmented.
    threshold
        Probability from which a pixel is foreground; as the model says if None.
    parent
        With whom it goes.

    Attributes
    ----------
    layer
        The labels; None before the first tile, and once they were removed.
    result, about
        None until model and arrays are there.
    done, total
        Tiles; see `Tile`.
    stopped, running
        Whether it was stopped by hand, and whether it has not ended yet.
    began
        Emitted with `ModelInfo` when model and arrays are there.
    advanced
        Emitted with the tiles done, and all of them.
    failed
        Emitted with a `Failure`.
    ended
        Emitted once, however it ends.
    cut
        Emitted with the threshold of the plane in sight, where it has its own.
    changed
        Emitted when the labels in the layer changed and came to rest.
    lost
        Emitted when the layer was removed from the viewer.
    """

    began = Signal(object)
    advanced = Signal(int, int)
    failed = Signal(object)
    ended = Signal()
    cut = Signal(float)
    changed = Signal()
    lost = Signal()

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
        self.image = image
        self.layer: Labels | None = None
        self.result: Result | None = None
        self.about: ModelInfo | None = None
        self.stopped = False
        self.running = True
        self.done = self.total = 0
        self._viewer = viewer
        self._place = placement(image, request.offset)
        self._volume = {key: image.metadata[key] for key in (VOLUME,) if key in image.metadata}
        self._wanted = threshold
        self._edited = self._removed = self._retired = False
        self._cutting: Iterator[None] | None = None
        self._cut_timer = self._timer(0, self._go_on_cutting, single=False)
        self._redraw = self._timer(_REDRAW_MS, self._show)
        self._record: dict[str, Any] = {}
        self._clock = time.monotonic()
        viewer.layers.events.removed.connect(self._on_removed)
        viewer.dims.events.current_step.connect(self._say_cut)

    def start(self) -> None:
        """Begin; the layer appears with the first tile."""
        self._record = _record_of(self.request)
        self._work = Worker(segment(self.request, self._wanted), self)
        self._work.yielded.connect(self._on_step)
        self._work.failed.connect(self.failed)
        self._work.finished.connect(self._on_finished)
        self._work.start()

    def stop(self) -> None:
        """Stop at the next tile; what is done stays."""
        if self.running:
            self.stopped = True
            self._work.quit()

    def retire(self) -> None:
        """Say nothing more, and give the memory back once the labels are at rest."""
        self.blockSignals(True)
        self._viewer.layers.events.removed.disconnect(self._on_removed)
        self._viewer.dims.events.current_step.disconnect(self._say_cut)
        self._retired = True
        if not self._cut_timer.isActive():
            self.deleteLater()

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._clock

    @property
    def folder(self) -> Path | None:
        """Where the result lies, if it is too large for the memory."""
        return self.result.folder if self.result else None

    def set_threshold(self, threshold: float | None) -> None:
        """Cut the kept probabilities anew, without inference; None cuts as the model says.

        Labels that were painted on are left alone: the new cut gets a new layer.
        """
        if self.result is None or self.about is None:
            self._wanted = threshold
        elif self.result.kept is not None and not self._removed:
            ours = self.layer is None or self.layer.data is self.result.labels
            if self._edited or not ours:
                self.result.detach()
                # The former layer keeps the record of how it was cut.
                self._record = copy.deepcopy(self._record)
                self._add_layer()
            cut = self.about.cut if threshold is None else threshold
            self._cutting = self.result.rethreshold(cut, self._shown())
            self._cut_timer.start()
            self._go_on_cutting()
            self._record_cut()
            self._say_cut()

    def compared_with(self, reference: "Labels") -> Comparison:
        """What to score: the layer as it is now, on the planes that are done.

        Raises
        ------
        InputError
            As `comparison`.
        """
        assert self.layer is not None and self.result is not None and self.about is not None
        done, classes = set(self.result.written), len(self.about.classes)
        return comparison(self.layer, reference, self.request, done, classes)

    def _on_step(self, step: Started | Tile) -> None:
        if isinstance(step, Started):
            self._on_began(step)
            return
        if self._removed:
            return
        if self.layer is None:
            self._add_layer()
        self.done, self.total = step.done, step.total
        self.advanced.emit(step.done, step.total)
        self._say_cut()
        if not self._redraw.isActive():
            self._redraw.start()

    def _on_began(self, step: Started) -> None:
        self.about, self.result = step.about, step.result
        if self._wanted is not None:
            self.result.threshold = self._wanted
        self._record |= {"model": step.about.name, "sha256": step.about.sha256}
        self._record["device"] = step.about.device
        if step.about.knows_angle:
            self._record["options"]["angle"] = self.request.angle
        self._record_cut()
        self.began.emit(step.about)

    def _add_layer(self) -> None:
        from napari.layers import Labels

        assert self.result is not None and self.about is not None
        classes = self.about.classes
        what = classes[1] if len(classes) == 2 else "labels"
        self._edited = False
        self.layer = Labels(
            self.result.labels,
            name=f"{self.request.planes.name} {what}",
            metadata={"msankd": self._record, **self._volume},
            features={"index": list(range(len(classes))), "class": list(classes)},
            multiscale=False,
            opacity=0.75,
            colormap=label_colormap(len(classes)),
            **self._place,
        )
        self.layer.events.paint.connect(self._on_paint)
        self._viewer.add_layer(self.layer)

    def _on_paint(self) -> None:
        self._edited = True
        self.changed.emit()

    def _on_finished(self) -> None:
        self.running = False
        self._record_cut()
        self._record["seconds"] = round(self.seconds, 3)
        self._record["complete"] = not self.stopped and 0 < self.total == self.done
        if self.result is not None and not self._record["complete"]:
            self._record["slices begun"] = sorted(self.result.written)
        self._show()
        self.ended.emit()
        self.changed.emit()

    def _record_cut(self) -> None:
        """Write down at which threshold the labels are cut, once it is known."""
        if self.result is None:
            return
        own, lone = self.result.threshold is None, len(self.request.indices) == 1
        index = self.request.place(self.request.indices[0])
        threshold = self.result.threshold_at(index) if lone or not own else "each slice's own"
        self._record["options"]["threshold"] = threshold

    def _say_cut(self) -> None:
        if self.result is not None and self.result.threshold is None:
            self.cut.emit(self.result.threshold_at(self._shown()))

    def _on_removed(self, event: Any) -> None:
        # Plugins get the viewer through a proxy: equal, but not the same.
        if self.layer is not None and event.value == self.layer:
            self._removed = True
            self.stop()
            self._cut_timer.stop()
            self._redraw.stop()
            self.layer = None
            self.lost.emit()

    def _go_on_cutting(self) -> None:
        """Spend a little time on the planes that still show the former threshold."""
        until = time.monotonic() + _CUT_BUDGET
        for _ in self._cutting or ():
            if time.monotonic() > until:
                break
        else:
            self._cut_timer.stop()
            self.changed.emit()
            if self._retired:
                self.deleteLater()
        self._show()

    def _show(self) -> None:
        if self.layer is not None:
            self.layer.refresh(extent=False)

    def _shown(self) -> Index:
        """Index in the result of the plane in sight, or of the one nearest to it."""
        if self.layer is None:
            return self.request.place(self.request.indices[0])
        return shown_index(self._viewer, self.layer, self.request.planes.axis)

    def _timer(self, interval: int, slot: Any, single: bool = True) -> QTimer:
        timer = QTimer(self)
        timer.setInterval(interval)
        timer.setSingleShot(single)
        timer.timeout.connect(slot)
        return timer


def recorded_angle(viewer: "ViewerModel", image: "Image", otherwise: float) -> float:
    """Degrees of the camera that an image was last segmented for; 0 where it was not known."""
    for layer in reversed(viewer.layers):
        record = layer.metadata.get("msankd", {})
        options = record.get("options", {})
        if record.get("input") == image.name and "angle" in options:
            return options["angle"] or 0
    return otherwise


def _record_of(request: Request) -> dict[str, Any]:
    """How a result is made, as far as it is known at the start."""
    try:
        ours = version("napari-msankd")
    except PackageNotFoundError:
        ours = "unknown"
    options: dict[str, Any] = {"flips": request.flips, "slices": _said(request)}
    if request.planes.axis:
        options["axis"] = request.planes.axis
    return {
        "model": request.model.stem,
        "sha256": "",
        "version": ours,
        "options": options,
        "input": request.planes.name,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": 0.0,
        "device": request.device,
        "complete": False,
    }


def _said(request: Request) -> str:
    """Which slices: ``all``, ``[3]``, or ``[1, 10:20]``, from 0 and without the last."""
    if request.whole:
        return "all"
    said = (str(r.start) if len(r) == 1 else f"{r.start}:{r.stop}" for r in request.part)
    return f"[{', '.join(said)}]"
