"""Choosing a domain: a folder, or opened layers; what is in it is said at once."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.layers import Image, Labels
from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QFileDialog

from napari_msankd.datasets.layer_pairs import LayerPair
from napari_msankd.datasets.selection import Dataset, FolderDataset, LayerDataset, Role
from napari_msankd.datasets.selector_form import DatasetForm
from napari_msankd.datasets.summary import Found, Masks, look_at
from napari_msankd.torch_import import gc_paused
from napari_msankd.workers import Failure, Worker
from src_training.errors import InputError

if TYPE_CHECKING:
    from napari.components import ViewerModel

_REST_MS = 150
_PAINTED_MS = 800
_SAID_MS = 100
_SAMPLE_SIZE = 512
_ROLES: dict[Masks, Role] = {
    "required": "source",
    "optional": "targets",
    "unused": "unlabelled",
}


class DatasetSelector(DatasetForm):
    """One line to choose a domain, and below it what was found there.

    Parameters
    ----------
    viewer
        Whose layers are to be had.
    masks
        ``required`` where a network is to learn from them.

    Attributes
    ----------
    changed
        Emitted whenever `value` may be another: something else was chosen or
        painted, or the look at it is over.
    """

    changed = Signal()

    def __init__(self, viewer: "ViewerModel", masks: Masks = "required") -> None:
        super().__init__(viewer, masks)
        self._chosen: Dataset | None = None
        self._found = Found(masks)
        self._work: Worker | None = None
        self._sampling: Worker | None = None
        self._seen_rows: list[tuple[str, ...]] | None = None
        self._look_soon = self._timer(_REST_MS, self._look)
        self._look_at_paint = self._timer(_PAINTED_MS, self._look)
        self._layers_soon = self._timer(0, self._on_layers)
        self._say_soon = self._timer(_SAID_MS, self._say_so_far)
        self._connect()
        self._on_layers()

    @property
    def looking(self) -> bool:
        """Whether what is chosen is still to come, or being looked at."""
        soon = (self._layers_soon, self._look_soon, self._look_at_paint)
        waiting = any(timer.isActive() for timer in soon)
        return waiting or self._work is not None or self._sampling is not None

    @property
    def problems(self) -> tuple[str, ...]:
        """What stands in the way, or was passed over, a sentence each."""
        return tuple(problem.sentence for problem in self._found.problems)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes found, background first; empty without masks."""
        return self._found.classes

    def value(self) -> Dataset | None:
        """What was chosen; None while it is looked at, or cannot be used."""
        if self._chosen is None or self.looking or not self._found.usable:
            return None
        return replace(self._chosen, angle=self.camera.angle)

    def end(self) -> None:
        """Stop looking; called when the widget or napari goes."""
        for timer in (self._look_soon, self._look_at_paint, self._layers_soon, self._say_soon):
            timer.stop()
        self._stop_looking()
        if self._sampling is not None:
            self._sampling.cancel()
            self._sampling = None

    def _stop_looking(self) -> None:
        if self._work is not None:
            self._work.cancel()
            self._work = None
            self._chosen = None

    def _connect(self) -> None:
        self.where.currentIndexChanged.connect(self._on_where)
        self.browse.clicked.connect(self._on_browse)
        self.sample.clicked.connect(self._on_sample)
        self.dropped.connect(self.choose_folder)
        self.rows.changed.connect(self._on_choice)
        self.camera.valueChanged.connect(lambda _angle: self.changed.emit())
        events = self.viewer.layers.events
        for event in (events.inserted, events.removed, events.reordered, events.renamed):
            event.connect(self._on_layer_list)
        # The viewer outlives its docks, and Python what Qt has deleted.
        self.destroyed.connect(lambda: self._let_go())

    def _let_go(self) -> None:
        """Listen to nothing any more."""
        events = self.viewer.layers.events
        for event in (events.inserted, events.removed, events.reordered, events.renamed):
            event.disconnect(self._on_layer_list)
        for layer in self.viewer.layers:
            if isinstance(layer, Image | Labels):
                for event in _changes(layer):
                    event.disconnect(self._on_painted)
        self.viewer.events.theme.disconnect(self._on_theme)

    def _on_layer_list(self, _event: object = None) -> None:
        # Many layers may come at once: the rows are made when all are there.
        self._layers_soon.start()

    def _on_layers(self) -> None:
        """Make the rows anew; look again only if what is ticked is another."""
        layers = list(self.viewer.layers)
        images = [layer for layer in layers if isinstance(layer, Image)]
        labels = [layer for layer in layers if isinstance(layer, Labels) and not _is_preview(layer)]
        self.rows.show_layers(images, labels)
        for layer in (*images, *labels):
            for event in _changes(layer):
                event.connect(self._on_painted)
        self.rows.setVisible(self.folder is None and len(self.rows) > 0)
        if self.folder is None and self._ticked() != self._seen_rows:
            self._on_choice()

    def _on_painted(self, event: Any) -> None:
        ticked = [layer for pair in self.rows.pairs for layer in pair if layer is not None]
        if self.folder is None and any(event.source == layer for layer in ticked):
            self._look_at_paint.start()
            self.changed.emit()

    def _ticked(self) -> list[tuple[str, ...]]:
        """What is ticked, by identity and name."""
        return [
            tuple(f"{layer.unique_id} {layer.name}" for layer in pair if layer is not None)
            for pair in self.rows.pairs
        ]

    def _on_where(self) -> None:
        self.rows.setVisible(self.folder is None and len(self.rows) > 0)
        self._on_choice()

    def _on_choice(self) -> None:
        self._seen_rows = self._ticked()
        self._look_soon.start()
        self.changed.emit()

    def _on_browse(self) -> None:
        name = QFileDialog.getExistingDirectory(self, "A folder with images/ and masks/")
        if name:
            self.choose_folder(Path(name))

    def _on_sample(self) -> None:
        self.sample.setEnabled(False)
        self._sampling = Worker(_sample_eyes(), self)
        self._sampling.yielded.connect(self._on_eye)
        self._sampling.failed.connect(lambda failure: self._fail(failure.sentence))
        self._sampling.finished.connect(self._on_eyes)
        self._sampling.start()

    def _on_eye(self, eye: tuple[Any, Any, str]) -> None:
        image, mask, name = eye
        self.viewer.add_image(image, rgb=True, name=name)
        self.viewer.add_labels(mask, name=f"{name} vessels")

    def _on_eyes(self) -> None:
        self._sampling = None
        self.sample.setEnabled(True)
        self.changed.emit()

    def _look(self) -> None:
        """Look at what is chosen, from the beginning."""
        for timer in (self._look_soon, self._look_at_paint, self._say_soon):
            timer.stop()
        self._stop_looking()
        self._found = Found(self.masks)
        self.strip.take_all_away()
        self.show_problems(())
        try:
            self._chosen = self._taken()
        except InputError as error:
            self._fail(str(error))
            return
        empty = self.folder is None and len(self.rows) == 0
        self.sample.setVisible(empty and self.masks == "required")
        if self._chosen is None:
            self.found.setText(self._nothing())
            self.changed.emit()
            return
        self.found.setText("Looking…")
        self._work = Worker(look_at(self._chosen, self.masks), self)
        self._work.yielded.connect(self._on_seen)
        self._work.failed.connect(self._on_failed)
        self._work.finished.connect(self._on_looked)
        self._work.start()

    def _taken(self) -> Dataset | None:
        if self.folder is not None:
            return FolderDataset(self.folder)
        pairs = tuple(LayerPair.of(image, labels) for image, labels in self.rows.pairs)
        name = _common([pair.image.name for pair in pairs])
        role = _ROLES[self.masks]
        return LayerDataset(name, pairs, role) if pairs else None

    def _nothing(self) -> str:
        learns = self.masks == "required"
        if len(self.rows) == 0:
            what = "Open images and paint Labels on them" if learns else "Open images"
            return f"No image is open. {what}, or choose a folder, or drop one here."
        paint = " Paint Labels on an image, or tick it." if learns else " Tick one."
        return f"No image is ticked.{paint}"

    def _on_seen(self, seen: Any) -> None:
        self._found.take(seen)
        if hasattr(seen, "thumbnail"):
            self.strip.add(seen)
        if not self._say_soon.isActive():
            self._say_soon.start()

    def _say_so_far(self) -> None:
        self.found.setText(f"Looking… {len(self._found.names):,} so far")
        self.show_problems(self.problems)

    def _on_looked(self) -> None:
        if self._work is None:
            return
        self._say_soon.stop()
        self._work = None
        self._found.close()
        self.show_camera(not self._found.volumes)
        self.found.setText(self._found.words())
        self.show_problems(self.problems)
        self.changed.emit()

    def _on_failed(self, failure: Failure) -> None:
        self._say_soon.stop()
        self._work = None
        self._fail(failure.sentence)

    def _fail(self, sentence: str) -> None:
        """Say that nothing can be seen at all."""
        self._chosen = None
        self.found.setText("")
        self.show_problems((*self.problems, sentence))
        self.changed.emit()

    def _timer(self, interval: int, slot: Callable[[], None]) -> QTimer:
        timer = QTimer(self)
        timer.setSingleShot(True)
        timer.setInterval(interval)
        timer.timeout.connect(slot)
        return timer


def _changes(layer: Any) -> list[Any]:
    """What tells that a layer was painted on, or has other pixels."""
    events = layer.events
    painted = [events.paint, events.labels_update] if isinstance(layer, Labels) else []
    return [events.data, *painted]


def _is_preview(layer: Labels) -> bool:
    """Whether a layer shows what a run makes of an image: nothing to learn from."""
    return "preview" in layer.metadata.get("msankd", {})


def _common(names: list[str]) -> str:
    """A name for all layers: what theirs begin with."""
    if len(names) == 1:
        return names[0]
    same = takewhile(lambda signs: len(set(signs)) == 1, zip(*names, strict=False))
    return "".join(signs[0] for signs in same).rstrip(" _-[(.0123456789") or "layers"


def _sample_eyes() -> Iterator[tuple[Any, Any, str]]:
    """Three eyes as one camera sees them: image, vessels, name."""
    with gc_paused():
        from src_training.data.phantom.camera import fundus_phantom

    for eye in range(3):
        case = fundus_phantom(eye, _SAMPLE_SIZE, "A")
        yield case.image, case.mask, f"eye {eye + 1}"
