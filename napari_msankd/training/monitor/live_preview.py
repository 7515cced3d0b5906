"""Live preview: a run's student segments the current slice at each validation."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QObject, Signal
from superqt.utils import qdebounced

from napari_msankd.layers import WidgetLayers, placement, shown_index
from napari_msankd.planes import Index, Planes, planes_of
from napari_msankd.theme import label_colormap
from napari_msankd.workers import WorkerGroup
from src_training.errors import InputError
from src_training.io.atomic import write_atomic
from src_training.runs.directory import RunDirectory

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

REST_MS = 400
"""Delay before a newly displayed slice is written for the run."""

_KEY = "preview"
_OPACITY = 0.5


@dataclass(frozen=True)
class _Slice:
    """A slice that was written for a run, with the layer and index for its labels."""

    run: RunDirectory
    layer: "Image"
    index: Index
    size: tuple[int, int]

    def fits(self, other: "_Slice | None") -> bool:
        """Whether the labels of both slices can share one Labels layer."""
        return other is not None and (self.layer, self.run, self.size) == (
            other.layer,
            other.run,
            other.size,
        )


class LivePreview(QObject):
    """Write the current slice of a layer for a run, and show the labels that the run returns.

    The labels have a layer of their own; the preview ends when the user removes it.

    Parameters
    ----------
    viewer
        The viewer.
    parent
        Qt parent.

    Attributes
    ----------
    written
        Emitted when a slice was written for the run.
    shown
        Emitted when the labels were updated.
    failed
        Emitted with a `Failure`.
    """

    written = Signal()
    shown = Signal()
    failed = Signal(object)

    def __init__(self, viewer: "ViewerModel", parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._layers = WidgetLayers(viewer)
        self._watched: tuple[Image, RunDirectory] | None = None
        self._slice: _Slice | None = None
        self._shown_slice: _Slice | None = None
        self.workers = WorkerGroup(self, self.failed.emit)
        self._write_later = qdebounced(self._write, timeout=REST_MS)
        viewer.dims.events.current_step.connect(self._on_slice)
        viewer.layers.events.removed.connect(self._on_removed)

    @property
    def active(self) -> bool:
        """Whether a layer is previewed."""
        return self._watched is not None

    @property
    def layer(self) -> "Labels | None":
        """The labels; None before the first preview and after their removal."""
        layer: Labels | None = self._layers.get(_KEY)
        return layer

    def watch(self, layer: "Image", run: Path) -> None:
        """Start to preview the current slice of a layer by the network of a run."""
        self._watched, self._slice = (layer, RunDirectory(run.absolute())), None
        self._write()

    def end(self) -> None:
        """Stop the preview; the labels are kept."""
        self._watched = self._slice = None
        self._write_later.cancel()
        self.workers.cancel_all()

    def close(self) -> None:
        """Stop the preview, and disconnect from the viewer."""
        self.end()
        self._viewer.dims.events.current_step.disconnect(self._on_slice)
        self._viewer.layers.events.removed.disconnect(self._on_removed)

    def show(self, file: Path) -> None:
        """Read and show the labels in a file, if it belongs to the current run."""
        current = self._slice
        if current is not None and file == current.run.preview_labels:
            self.workers.start(
                "show", _read(current), lambda labels: self._on_labels(current, labels)
            )

    def _write(self) -> None:
        """Write the current slice for the run, if it has changed."""
        if self._watched is None:
            return
        layer, run = self._watched
        try:
            planes = planes_of(layer)
        except InputError:
            return
        current = _Slice(run, layer, shown_index(self._viewer, layer), planes.size)
        if current != self._slice:
            self._slice = current
            steps = _write(planes, current)
            self.workers.start("write", steps, lambda _nothing: self.written.emit())

    def _on_slice(self, _event: object) -> None:
        if self._watched is not None:
            self._write_later()

    def _on_labels(self, current: _Slice, labels: NDArray[np.uint8] | None) -> None:
        """Update the layer, unless the labels are of a slice that is no longer current."""
        if labels is None or current != self._slice or current.layer not in self._viewer.layers:
            return
        data = labels.reshape((1,) * len(current.index) + current.size)
        transform = placement(current.layer, (*current.index, 0, 0))
        layer = self.layer
        if layer is not None and current.fits(self._shown_slice):
            layer.data = data
            layer.translate = transform["translate"]
        else:
            self._add(current, data, transform)
        self._shown_slice = current
        self.shown.emit()

    def _add(self, current: _Slice, data: NDArray[np.uint8], transform: dict[str, Any]) -> None:
        selection = self._viewer.layers.selection
        active = selection.active
        # Adding removes the former layer; `_on_removed` must not take that for the user's action.
        self._shown_slice = None
        layer = self._layers.add(
            _KEY,
            data,
            "labels",
            name=f"{current.layer.name} preview",
            opacity=_OPACITY,
            colormap=label_colormap(max(2, int(data.max()) + 1)),
            metadata={"msankd": {"preview": current.run.title}},
            **transform,
        )
        # The next validation would overwrite any edits.
        layer.editable = False
        selection.active = active

    def _on_removed(self, event: Any) -> None:
        if self._watched is None:
            return
        removed_by_user = self._shown_slice is not None and self.layer is None
        if event.value is self._watched[0] or removed_by_user:
            self._shown_slice = None
            self.end()


def _write(planes: Planes, current: _Slice) -> Iterator[None]:
    plane = planes.read(current.index)
    write_atomic(current.run.preview_input, lambda path: np.save(path, plane, allow_pickle=False))
    yield


def _read(current: _Slice) -> Iterator[NDArray[np.uint8] | None]:
    """Read the labels; yields None if they are missing, outdated or of another size."""
    file, slice_file = current.run.preview_labels, current.run.preview_input
    try:
        outdated = file.stat().st_mtime_ns < slice_file.stat().st_mtime_ns
        labels = np.load(file, allow_pickle=False)
    except FileNotFoundError:
        yield None
        return
    yield None if outdated or labels.shape != current.size else labels
