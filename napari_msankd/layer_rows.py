"""Rows of image layers to tick, each with the Labels layer that is its mask."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QResizeEvent
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QGridLayout,
    QScrollArea,
    QSizePolicy,
    QWidget,
)

from napari_msankd.domain_look import Masks
from napari_msankd.layer_pairs import fits, matched

if TYPE_CHECKING:
    from napari.layers import Image, Labels

_NONE = "no labels"
_IN_SIGHT = 3
_ROW = 26


class LayerRows(QScrollArea):
    """Which image layers belong to a domain, and where their masks are.

    Pairs are matched by themselves; what a person changes stays.

    Parameters
    ----------
    masks
        With ``required``, images that have labels are ticked; with
        ``optional`` those that have none, or all if every one has some.
    """

    changed = Signal()

    def __init__(self, masks: Masks) -> None:
        super().__init__()
        self._masks = masks
        self.rows: list[tuple[Any, _Tick, _LabelsChoice]] = []
        self._ticked: dict[str, bool] = {}
        self._paired: dict[str, str | None] = {}
        self.setWidgetResizable(True)
        self.setFrameShape(QScrollArea.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    @property
    def pairs(self) -> list[tuple["Image", "Labels | None"]]:
        """The ticked images and their labels."""
        return [(image, choice.labels) for image, tick, choice in self.rows if tick.isChecked()]

    def __len__(self) -> int:
        return len(self.rows)

    def show_layers(self, images: Sequence["Image"], labels: Sequence["Labels"]) -> None:
        """Make the rows anew for the layers there are."""
        ids = {layer.unique_id: layer for layer in labels}
        pairs = [
            ids.get(self._paired[image.unique_id]) if image.unique_id in self._paired else guess
            for image, guess in zip(images, matched(images, labels), strict=True)
        ]
        bare = any(mask is None for mask in pairs)
        inside = QWidget()
        grid = QGridLayout(inside)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setVerticalSpacing(2)
        grid.setColumnStretch(0, 2)
        grid.setColumnStretch(1, 3)
        self.rows = []
        for row, (image, mask) in enumerate(zip(images, pairs, strict=True)):
            wanted = mask is not None if self._masks == "required" else mask is None or not bare
            tick = _Tick(image.name, self._ticked.get(image.unique_id, wanted))
            choice = _LabelsChoice(image, [x for x in labels if fits(image, x)], mask)
            tick.toggled.connect(lambda on, i=image: self._on_tick(i, on))
            choice.activated.connect(lambda _, i=image, c=choice, t=tick: self._on_choice(i, c, t))
            grid.addWidget(tick, row, 0)
            grid.addWidget(choice, row, 1)
            self.rows.append((image, tick, choice))
        self.setWidget(inside)
        self.setVisible(bool(self.rows))
        self.setFixedHeight(min(len(self.rows), _IN_SIGHT) * _ROW)

    def _on_tick(self, image: "Image", on: bool) -> None:
        self._ticked[image.unique_id] = on
        self.changed.emit()

    def _on_choice(self, image: "Image", choice: "_LabelsChoice", tick: "_Tick") -> None:
        labels = choice.labels
        self._paired[image.unique_id] = None if labels is None else labels.unique_id
        if tick.isChecked() or labels is None or self._masks == "optional":
            self.changed.emit()
        else:
            # Whoever says where the mask is wants the image.
            tick.setChecked(True)


class _Tick(QCheckBox):
    """A tick with a name as long as the room, the whole of it as tooltip."""

    def __init__(self, name: str, on: bool) -> None:
        super().__init__()
        self._name = name
        self.setChecked(on)
        self.setToolTip(f"Whether image layer {name!r} belongs to the domain")
        self.setAccessibleName(name)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        room = max(0, self.width() - 28)
        shown = self.fontMetrics().elidedText(self._name, Qt.TextElideMode.ElideMiddle, room)
        self.setText(shown.replace("&", "&&"))


class _LabelsChoice(QComboBox):
    """The Labels layers of an image's shape."""

    def __init__(self, image: "Image", labels: Sequence["Labels"], chosen: "Labels | None") -> None:
        super().__init__()
        self._labels: list[Labels | None] = [None, *labels]
        self.addItems([_NONE, *(layer.name for layer in labels)])
        self.setCurrentIndex(self._labels.index(chosen) if chosen in labels else 0)
        self.setToolTip(f"Labels layer that holds the mask of {image.name!r}")
        self.setAccessibleName(f"Labels of {image.name}")
        self.setMinimumContentsLength(6)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)

    @property
    def labels(self) -> "Labels | None":
        """The chosen layer."""
        return self._labels[self.currentIndex()]

    def wheelEvent(self, event: Any) -> None:
        event.ignore()
