"""Controls for the slices of a stack and the slicing axis."""

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QLabel, QSpinBox, QVBoxLayout, QWidget
from superqt.utils import signals_blocked

from napari_msankd.planes import Slicing
from napari_msankd.segment.state import Part, SliceChoice
from napari_msankd.widgets.layout import ElidingComboBox

PARTS: dict[Part, str] = {
    "all": "all slices",
    "current": "current slice",
    "range": "range of slices",
}


class SliceSelector(QWidget):
    """Choice of the slices of a stack and the slicing axis.

    Attributes
    ----------
    changed
        Emitted when the user changes the choice.
    """

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.which = QComboBox()
        for part, text in PARTS.items():
            self.which.addItem(text, part)
        self.which.setToolTip("Segment the whole stack, the slice in view, or a range of slices")
        self.axis = ElidingComboBox()
        self.axis.setToolTip("Slicing axis of the volume; follows the view when it is rolled")
        self._along = QLabel("along")
        self.first, self.last = QSpinBox(), QSpinBox()
        self.first.setToolTip("First slice to segment; the first of all is 0")
        self.last.setToolTip("Last slice to segment, included")
        self._bounds = QWidget()
        for row, controls in (
            (across := QHBoxLayout(), (self._along, self.axis)),
            (QHBoxLayout(self._bounds), (QLabel("from"), self.first, QLabel("to"), self.last)),
        ):
            row.setContentsMargins(0, 0, 0, 0)
            for control in controls:
                row.addWidget(control, int(not isinstance(control, QLabel)))
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.addWidget(self.which)
        rows.addLayout(across)
        rows.addWidget(self._bounds)
        for signal in (
            self.which.currentIndexChanged,
            self.axis.currentIndexChanged,
            self.first.valueChanged,
            self.last.valueChanged,
        ):
            signal.connect(lambda _value: self.changed.emit())

    def value(self) -> SliceChoice:
        """The choice."""
        part, axis = self.which.currentData(), max(0, self.axis.currentIndex())
        if part != "range":
            return SliceChoice(part, axis)
        last = self.last.value() if self.last.value() < self.last.maximum() else None
        return SliceChoice(part, axis, self.first.value(), last)

    def show_choice(
        self, choice: SliceChoice, shape: tuple[int, ...], axes: tuple[str, ...]
    ) -> None:
        """Show a choice among the slices of an array.

        Parameters
        ----------
        choice
            The choice.
        shape
            Shape without the color axis; ``()`` for a layer without slices.
        axes
            Names of the possible slicing axes of a volume; empty for photographs.
        """
        self.setVisible(len(shape) > 2)
        if len(shape) < 3:
            return
        texts = [f"axis {n}" if name.startswith("-") else name for n, name in enumerate(axes)]
        count = Slicing(shape, choice.axis).stack[-1]
        with signals_blocked(self):
            self.which.setCurrentIndex(self.which.findData(choice.part))
            if [self.axis.itemText(n) for n in range(self.axis.count())] != texts:
                self.axis.clear()
                self.axis.addItems(texts)
            self.axis.setCurrentIndex(choice.axis)
            self.first.setRange(0, count - 1)
            self.first.setValue(choice.first)
            self.last.setRange(choice.first, count - 1)
            self.last.setValue(count - 1 if choice.last is None else choice.last)
        for part in (self._along, self.axis):
            part.setVisible(bool(texts))
        self._bounds.setVisible(choice.part == "range")
