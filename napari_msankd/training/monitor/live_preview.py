"""The slice in sight as a run's student sees it, anew at each validation."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QObject, QTimer, Signal

from napari_msankd.layers import Index, Planes, placement, planes_of, shown_index
from napari_msankd.theme import label_colormap
from napari_msankd.workers import WorkerGroup
from src_training.errors import InputError
from src_training.io.atomic import write_atomic
from src_training.runs.directory import RunDirectory

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

REST_MS = 400
"""A slice is given to the run once it has been in sight for so long."""

_OPACITY = 0.5


@dataclass(frozen=True)
class _Given:
    """What a run was given to segment, and where its labels go."""

    run: RunDirectory
    layer: "Image"
    index: Index
    size: tuple[int, int]


class LivePreview(QObject):
    """Gives the current slice of a layer to a run and shows what its network makes of it.

    The labels have a layer of their own; when a person removes it, the preview
    ends.

    Parameters
    ----------
    viewer
        Whose slice and layers.
    parent
        With whom it goes.

    Attributes
    ----------
    given
        Emitted when a slice was written for the run.
    shown
        Emitted when the labels were brought up to date.
    failed
        Emitted with a `Failure`.
    layer
        The labels; None before the first.
    """

    given = Signal()
    shown = Signal()
    failed = Signal(object)

    def __init__(self, viewer: "ViewerModel", parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._watched: tuple[Image, RunDirectory] | None = None
        self._given: _Given | None = None
        self._placed: _Given | None = None
        self.layer: Labels | None = None
        self.workers = WorkerGroup(self, self.failed.emit)
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.setInterval(REST_MS)
        self._soon.timeout.connect(self._give)
        viewer.dims.events.current_step.connect(self._on_slice)
        viewer.layers.events.removed.connect(self._on_removed)

    @property
    def active(self) -> bool:
        """Whether a layer is previewed."""
        return self._watched is not None

    def watch(self, layer: "Image", run: Path) -> None:
        """Preview the slice in sight of a layer, now and later, by the network of a run."""
        self._watched, self._given = (layer, RunDirectory(run.absolute())), None
        self._give()

    def end(self) -> None:
        """Preview no more; the labels stay as they are."""
        self._watched = self._given = None
        self._soon.stop()
        self.workers.cancel_all()

    def show(self, file: Path) -> None:
        """Read and show the labels of a run; those of another run are passed over."""
        given = self._given
        if given is not None and file == given.run.preview_labels:
            self.workers.start("show", _read(given), lambda labels: self._on_labels(given, labels))

    def _give(self) -> None:
        """Write the slice in sight for the run, if it is another."""
        if self._watched is None:
            return
        layer, run = self._watched
        try:
            planes = planes_of(layer)
        except InputError:
            return
        given = _Given(run, layer, shown_index(self._viewer, layer), planes.size)
        if given != self._given:
            self._given = given
            self.workers.start("give", _write(planes, given), lambda _nothing: self.given.emit())

    def _on_slice(self, _event: object) -> None:
        if self._watched is not None:
            self._soon.start()

    def _on_labels(self, given: _Given, labels: NDArray[np.uint8] | None) -> None:
        """Bring the layer up to date; labels of a slice that is not given any more are old."""
        if labels is None or given != self._given or given.layer not in self._viewer.layers:
            return
        data = labels.reshape((1,) * len(given.index) + given.size)
        offset = (*given.index, 0, 0)
        if self.layer is not None and self._placed is not None and _alike(given, self._placed):
            self.layer.data = data
            self.layer.translate = placement(given.layer, offset)["translate"]
        else:
            self._renew(given, data, placement(given.layer, offset))
        self._placed = given
        self.shown.emit()

    def _renew(self, given: _Given, data: NDArray[np.uint8], place: dict[str, Any]) -> None:
        if self.layer is not None and self.layer in self._viewer.layers:
            former, self.layer = self.layer, None
            self._viewer.layers.remove(former)
        active = self._viewer.layers.selection.active
        name = f"{given.layer.name} preview"
        record = {"msankd": {"preview": given.run.path.name}}
        self.layer = self._viewer.add_labels(
            data,
            name=name,
            opacity=_OPACITY,
            colormap=label_colormap(max(2, int(data.max()) + 1)),
            metadata=record,
            **place,
        )
        # Whatever would be painted here, the next validation paints over.
        self.layer.editable = False
        self._viewer.layers.selection.active = active

    def _on_removed(self, event: Any) -> None:
        if self.layer is not None and event.value is self.layer:
            self.layer = self._placed = None
            self.end()
        elif self._watched is not None and event.value is self._watched[0]:
            self.end()


def _alike(one: _Given, other: _Given) -> bool:
    """Whether labels of both fit one layer."""
    return one.layer is other.layer and one.run == other.run and one.size == other.size


def _write(planes: Planes, given: _Given) -> Iterator[None]:
    plane = planes.read(given.index)
    write_atomic(given.run.preview_input, lambda path: np.save(path, plane, allow_pickle=False))
    yield


def _read(given: _Given) -> Iterator[NDArray[np.uint8] | None]:
    """The labels; None where they are older than the slice or do not fit it."""
    file, slice_file = given.run.preview_labels, given.run.preview_input
    try:
        old = file.stat().st_mtime_ns < slice_file.stat().st_mtime_ns
        labels = np.load(file, allow_pickle=False)
    except FileNotFoundError:
        yield None
        return
    yield None if old or labels.shape != given.size else labels
