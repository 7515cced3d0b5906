"""Which slices of a stack are segmented, and along which of its axes."""

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QLabel, QSpinBox, QVBoxLayout, QWidget

from napari_msankd.layers import Index, Slicing
from napari_msankd.widgets.layout import elide_combo

if TYPE_CHECKING:
    from napari.layers import Image

ALL, CURRENT, RANGE = "all slices", "current slice", "some slices"


class SliceSelector(QWidget):
    """Controls that are there for stacks only.

    Attributes
    ----------
    changed
        Emitted when another part is chosen.
    """

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.which = QComboBox()
        self.which.addItems([ALL, CURRENT, RANGE])
        self.which.setToolTip("Segment the whole stack, the slice in sight, or some slices")
        self.axis = QComboBox()
        elide_combo(self.axis)
        self.axis.setToolTip("The axis of the volume that slices follow: each is cut across it")
        self._along = QLabel("along")
        self.first, self.last = QSpinBox(), QSpinBox()
        self.first.setToolTip("First slice to segment; the first of all is 0")
        self.last.setToolTip("Last slice to segment, itself included")
        self._bounds = QWidget()
        for row, parts in (
            (across := QHBoxLayout(), (self._along, self.axis)),
            (QHBoxLayout(self._bounds), (QLabel("from"), self.first, QLabel("to"), self.last)),
        ):
            row.setContentsMargins(0, 0, 0, 0)
            for part in parts:
                row.addWidget(part, int(not isinstance(part, QLabel)))
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.addWidget(self.which)
        rows.addLayout(across)
        rows.addWidget(self._bounds)
        self._shape: tuple[int, ...] = ()
        self._labels: tuple[str, ...] = ()
        self.which.currentIndexChanged.connect(self._on_change)
        self.axis.currentIndexChanged.connect(self._on_axis)
        self.first.valueChanged.connect(self._on_first)
        self.last.valueChanged.connect(self.changed)
        self.follow(None)

    def follow(self, layer: "Image | None") -> None:
        """Offer what this layer has; the choice stays where it can."""
        self.setVisible(layer is not None and layer.ndim > 2)
        if layer is None or layer.ndim < 3:
            return
        data = layer.data[0] if layer.multiscale else layer.data
        shape = tuple(int(size) for size in data.shape[: layer.ndim])
        labels = layer.axis_labels if len(shape) == 3 and not layer.rgb else ()
        if (shape, labels) != (self._shape, self._labels):
            self._shape, self._labels = shape, labels
            self._offer_axes()
            self._on_axis()

    @property
    def along(self) -> int:
        """The axis that planes follow, as `Slicing` has it."""
        return max(0, self.axis.currentIndex())

    def part(self, slicing: Slicing, shown: Index) -> tuple[range, ...]:
        """The planes that are chosen: a range for each axis of the stack."""
        which = self.which.currentText()
        if not shown or which == ALL:
            return tuple(range(count) for count in slicing.stack)
        outer = tuple(range(at, at + 1) for at in shown[:-1])
        if which == CURRENT:
            return (*outer, range(shown[-1], shown[-1] + 1))
        return (*outer, range(self.first.value(), self.last.value() + 1))

    def _offer_axes(self) -> None:
        """Offer the axes of a volume; photographs are cut along no other than theirs."""
        self.axis.blockSignals(True)
        self.axis.clear()
        for place, label in enumerate(self._labels):
            self.axis.addItem(f"axis {place}" if label.startswith("-") else label)
        self.axis.blockSignals(False)
        for part in (self._along, self.axis):
            part.setVisible(bool(self._labels))

    def _on_axis(self) -> None:
        count = Slicing(self._shape, self.along).stack[-1]
        for bound, whole in ((self.first, 0), (self.last, count - 1)):
            bound.blockSignals(True)
            bound.setRange(0, count - 1)
            bound.setValue(whole)
            bound.blockSignals(False)
        self._on_change()

    def _on_first(self, first: int) -> None:
        self.last.setMinimum(first)
        self.changed.emit()

    def _on_change(self) -> None:
        self._bounds.setVisible(self.which.currentText() == RANGE)
        self.changed.emit()
