"""Choice of a dataset, a folder or open layers, with a summary of its contents."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.layers import Image, Labels
from napari.utils.theme import get_theme
from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QDragEnterEvent, QDragLeaveEvent, QDropEvent
from qtpy.QtWidgets import (
    QFileDialog,
    QFrame,
    QHBoxLayout,
    QLabel,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_msankd.datasets.layer_table import LayerTable
from napari_msankd.datasets.remedies import Remedies
from napari_msankd.datasets.selection import Dataset, Masks
from napari_msankd.datasets.state import DatasetState
from napari_msankd.datasets.thumbnails import ThumbnailStrip
from napari_msankd.formatting import literal
from napari_msankd.layers import add_layer
from napari_msankd.sample_data import labelled_eyes
from napari_msankd.widgets.camera_angle import CameraAngle
from napari_msankd.widgets.error_dialog import show_traceback
from napari_msankd.widgets.layout import ElidingComboBox, push_button
from napari_msankd.widgets.wrapping_label import WrappingLabel
from napari_msankd.workers import Failure, WorkerGroup, timer
from src_training.errors import InputError

if TYPE_CHECKING:
    from napari.components import ViewerModel

RED = {"dark": "#ff8a8a", "light": "#b00020"}
"""Color of a problem, for either type of theme."""

_REST_MS = 150
_PAINTED_MS = 800
_TEXT_MS = 100
_SHOWN = 3


class DatasetSelector(QFrame):
    """Controls to choose a dataset, with a summary, problems and remedies below.

    A view of its `state`.

    Parameters
    ----------
    viewer
        The viewer whose layers can be chosen.
    masks
        Purpose of the images.

    Attributes
    ----------
    changed
        Emitted whenever `value` may have changed: after a choice, after painting, and after
        reading.
    state
        The choice and its summary.
    """

    changed = Signal()

    def __init__(self, viewer: "ViewerModel", masks: Masks = "required") -> None:
        super().__init__()
        self.viewer = viewer
        self.state = DatasetState(masks)
        self.setAcceptDrops(True)
        self._workers = WorkerGroup(self, self._on_failed)
        self._read_soon = timer(self, self._read, _REST_MS)
        self._read_paint = timer(self, self._read, _PAINTED_MS)
        self._layers_soon = timer(self, self._update_layers)
        self._text_soon = timer(self, self._show_text, _TEXT_MS)
        self._painted: list[Any] = []
        self._listened: list[tuple[Any, Callable[..., None]]] = []
        self._chosen = self.state.chosen
        self._build()
        self._connect()
        self._on_theme()
        self._update_layers()
        self._read_soon.start()

    @property
    def looking(self) -> bool:
        """Whether the dataset is being read, or will be read soon."""
        timers = (self._layers_soon, self._read_soon, self._read_paint)
        return any(pending.isActive() for pending in timers) or bool(self._workers)

    @property
    def problems(self) -> tuple[str, ...]:
        """Problems and skipped files, a sentence each."""
        return self.state.summary.problems

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, background first; empty without masks."""
        return self.state.summary.classes

    def value(self) -> Dataset | None:
        """The dataset; None while it is read, or if it cannot be used."""
        return None if self.looking else self.state.value()

    def choose_folder(self, path: Path | None) -> None:
        """Choose a folder, or the open layers if None; a folder chosen again is read again."""
        entries = [self.where.itemData(i) for i in range(self.where.count())]
        if path not in entries:
            assert path is not None
            self.where.addItem(f"{path.parent.name}/{path.name}".strip("/") or str(path), path)
            self.where.setItemData(len(entries), literal(str(path)), Qt.ItemDataRole.ToolTipRole)
            entries.append(path)
        if entries.index(path) == self.where.currentIndex():
            self._read_again()
        self.where.setCurrentIndex(entries.index(path))

    def end(self) -> None:
        """Stop reading and disconnect, when the widget or napari closes."""
        self._disconnect()
        for pending in (self._read_soon, self._read_paint, self._layers_soon, self._text_soon):
            pending.stop()
        self._workers.cancel_all()
        self.state.stop()

    def _connect(self) -> None:
        state = self.state
        self.where.currentIndexChanged.connect(
            lambda: state.choose_folder(self.where.currentData())
        )
        self.where.activated.connect(self._read_again)
        self.camera.valueChanged.connect(self._on_angle)
        self.rows.ticked.connect(state.tick)
        self.rows.paired.connect(state.pair)
        state.events.rows.connect(self._on_rows)
        events = state.events
        for name in ("folder", "exclude", "unmasked", "resample_masks", "class_values", "channel"):
            events[name].connect(self._on_choice)
        layers = self.viewer.layers.events
        sources = (layers.inserted, layers.removed, layers.reordered, layers.renamed)
        self._listened = [(source, self._on_layers) for source in sources]
        self._listened.append((self.viewer.events.theme, self._on_theme))
        for source, callback in self._listened:
            source.connect(callback)
        # The viewer outlives this widget, and would call methods of a deleted object.
        self.destroyed.connect(self._disconnect)

    def _disconnect(self) -> None:
        self._follow_paint(())
        while self._listened:
            source, callback = self._listened.pop()
            source.disconnect(callback)

    def _on_layers(self, _event: object = None) -> None:
        # Many layers may be added at once; update the rows once after all of them.
        self._layers_soon.start()

    def _update_layers(self) -> None:
        self.state.update_layers(self.viewer)
        self._follow_paint(
            layer for layer in self.viewer.layers if isinstance(layer, Image | Labels)
        )

    def _follow_paint(self, layers: Any) -> None:
        for event in self._painted:
            event.disconnect(self._on_painted)
        self._painted = [event for layer in layers for event in _paint_events(layer)]
        for event in self._painted:
            event.connect(self._on_painted)

    def _on_painted(self, event: Any) -> None:
        if any(event.source in (row.image, row.labels) for row in self.state.chosen):
            self._read_paint.start()
            self.changed.emit()

    def _on_rows(self) -> None:
        """Show the rows; read again only if the chosen images have changed."""
        self.rows.show_rows(self.state.rows)
        if self.state.folder is None and self.state.chosen != self._chosen:
            self._on_choice()
        elif not self.looking:
            self._show_text()

    def _on_choice(self) -> None:
        self._chosen = self.state.chosen
        self._read_soon.start()
        self._show_actions()
        self.changed.emit()

    def _read_again(self) -> None:
        """Read the folder without exclusions: its files may have been repaired."""
        self.state.include_all()
        self._read_soon.start()

    def _on_angle(self) -> None:
        self.state.angle = self.camera.angle
        self.changed.emit()

    def _on_browse(self) -> None:
        name = QFileDialog.getExistingDirectory(self, "A folder with images/ and masks/")
        if name:
            self.choose_folder(Path(name))

    def _on_use_as_labels(self) -> None:
        try:
            self.state.use_as_labels(self.viewer)
        except InputError as error:
            self._on_failed(Failure(str(error)))

    def _on_resample(self) -> None:
        if (steps := self.state.resample()) is not None:
            self.remedies.resample.setEnabled(False)
            self._workers.start("resample", _until_end(steps), self._on_resampled)

    def _on_resampled(self, item: Any) -> None:
        if item is None:
            self.remedies.resample.setEnabled(True)
        else:
            self.state.add_resampled(self.viewer, item)

    def _on_sample(self) -> None:
        self.sample.setEnabled(False)
        self._workers.start("sample", labelled_eyes(), self._add_sample)

    def _add_sample(self, sample: tuple[Any, Any, str]) -> None:
        image, mask, name = sample
        add_layer(self.viewer, image, {"rgb": True, "name": name}, "image")
        add_layer(self.viewer, mask, {"name": f"{name} vessels"}, "labels")
        self.sample.setEnabled(True)

    def _read(self) -> None:
        """Read the dataset from the start."""
        for pending in (self._read_soon, self._read_paint, self._text_soon):
            pending.stop()
        self._workers.cancel("read")
        self.strip.remove_all()
        steps = self.state.begin(self.viewer)
        if steps is not None:
            self._workers.start("read", _until_end(steps), self._on_item)
        self._show_text()
        self.changed.emit()

    def _on_item(self, item: Any) -> None:
        if item is None:
            self.state.finish()
            self._workers.cancel("read")
            self._text_soon.stop()
            self._show_text()
            self.changed.emit()
            return
        self.state.add(item)
        if hasattr(item, "thumbnail"):
            self.strip.add(item)
        if not self._text_soon.isActive():
            self._text_soon.start()

    def _on_failed(self, failure: Failure) -> None:
        self._workers.cancel_all()
        self._text_soon.stop()
        self.sample.setEnabled(True)
        self.remedies.resample.setEnabled(True)
        self.state.fail(failure.sentence)
        self._show_text()
        self.changed.emit()

    def _show_text(self) -> None:
        self.summary.setText(self.state.text)
        problems = self.state.problems
        shown = "\n".join(f"✕ {sentence}" for sentence in problems[:_SHOWN])
        # Zero-width spaces allow line breaks in long paths.
        self.faults.setText(shown.replace("/", "/\u200b").replace("\\", "\\\u200b"))
        self.more.setText(f"All {len(problems):,} problems…")
        self.more.setVisible(len(problems) > _SHOWN)
        chosen = self.state.folder is not None or bool(self.state.chosen)
        self._camera_line.setVisible(chosen and not self.state.summary.volumes)
        self._show_actions()

    def _show_actions(self) -> None:
        state = self.state
        self.rows.setVisible(state.folder is None and bool(state.rows))
        self.sample.setVisible(state.empty)
        self.remedies.update_from_state()

    def _build(self) -> None:
        self.rows, self.strip = LayerTable(), ThumbnailStrip()
        self.summary, self.faults = WrappingLabel(), WrappingLabel()
        self.summary.setToolTip("What was found")
        self.faults.setToolTip("Problems by file or layer")
        for label in (self.summary, self.faults):
            # A long path must not widen the dock.
            policy = label.sizePolicy()
            policy.setHorizontalPolicy(QSizePolicy.Policy.Ignored)
            label.setSizePolicy(policy)
        self.sample = push_button(
            "Open sample images",
            "Three synthetic fundus photographs with vessels painted; offline",
            self._on_sample,
        )
        self.more = push_button(
            "",
            "Every problem, to read and copy",
            lambda: show_traceback(self, "\n".join(self.state.problems)),
        )
        self.remedies = Remedies(self.state, self._on_use_as_labels, self._on_resample)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addLayout(self._build_line())
        layout.addWidget(self.rows)
        layout.addWidget(self.summary)
        layout.addWidget(self.sample, alignment=Qt.AlignmentFlag.AlignLeft)
        for part in (self.strip, self._build_camera(), self.faults):
            layout.addWidget(part)
        layout.addWidget(self.more, alignment=Qt.AlignmentFlag.AlignLeft)
        layout.addWidget(self.remedies)
        layout.addStretch(1)

    def _build_line(self) -> QHBoxLayout:
        self.where = ElidingComboBox()
        self.where.addItem("Open layers", None)
        self.where.setToolTip("Open layers, or a folder; a folder can also be dropped here")
        self.where.setAccessibleName("Where the images are")
        inside = "images/ and masks/" if self.state.masks == "required" else "images/"
        tip = f"Choose a folder with {inside}; files are matched by name"
        self.browse = push_button("Folder…", tip, self._on_browse)
        self.line = QHBoxLayout()
        self.line.setSpacing(4)
        self.line.addWidget(self.where, 1)
        self.line.addWidget(self.browse)
        return self.line

    def _build_camera(self) -> QWidget:
        self.camera = CameraAngle()
        self._camera_line = QWidget()
        row = QHBoxLayout(self._camera_line)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(4)
        row.addWidget(QLabel("Fundus camera"))
        row.addWidget(self.camera)
        row.addStretch(1)
        return self._camera_line

    def _on_theme(self, _event: object = None) -> None:
        self.rows.set_theme(self.viewer.theme)
        self.faults.setStyleSheet(f"color: {RED[get_theme(self.viewer.theme).type]};")

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Accept a folder, and highlight the drop area."""
        if path_of(event) is not None:
            event.acceptProposedAction()
            edge = get_theme(self.viewer.theme).current.as_hex()
            self.setStyleSheet(f"DatasetSelector {{ border: 2px dashed {edge}; }}")

    def dragLeaveEvent(self, event: QDragLeaveEvent) -> None:
        """Remove the highlight."""
        self.setStyleSheet("")
        event.accept()

    def dropEvent(self, event: QDropEvent) -> None:
        """Choose the dropped folder."""
        self.setStyleSheet("")
        path = path_of(event)
        if path is not None:
            event.acceptProposedAction()
            self.choose_folder(path)


def path_of(event: QDropEvent) -> Path | None:
    """Path of the first local file or folder that is dragged; None if there is none."""
    paths = [url.toLocalFile() for url in event.mimeData().urls() if url.isLocalFile()]
    return Path(paths[0]) if paths else None


def _until_end(steps: Iterator[Any]) -> Iterator[Any]:
    """The items of an iterator, and None at the end."""
    yield from steps
    yield None


def _paint_events(layer: Any) -> list[Any]:
    """Events of changes to a layer's data, transform and labels."""
    events = layer.events
    labels = [events.paint, events.labels_update] if isinstance(layer, Labels) else []
    transform = [events.scale, events.translate, events.rotate, events.shear, events.affine]
    return [events.data, *transform, *labels]
