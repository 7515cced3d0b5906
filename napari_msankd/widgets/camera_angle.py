"""Field of view of a fundus camera."""

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox
from superqt.utils import signals_blocked

from napari_msankd.widgets.layout import keep_narrow

PRESETS = (30, 35, 45, 50, 200)
"""Degrees of common fundus cameras; 200 is ultra-widefield."""

UNKNOWN = "unknown"
_LARGEST = 200


class CameraAngle(QComboBox):
    """Field of view of a fundus camera in degrees, from presets or by free entry.

    Attributes
    ----------
    valueChanged
        Emitted with the new value in degrees; 0 means unknown.
    """

    valueChanged = Signal(float)

    def __init__(self) -> None:
        super().__init__()
        keep_narrow(self)
        self.setEditable(True)
        self.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self.setAccessibleName("Angle of the fundus camera")
        self.setToolTip(
            "Angle that the fundus camera's field of view spans, in degrees; type any other. "
            "Images of all cameras are brought to the same pixels per degree. Unknown: images "
            "are scaled by their field of view's diameter"
        )
        self._value = 0.0
        self._model_angle: float | None = None
        self._list_presets()
        self.activated.connect(lambda position: self.setValue(self.itemData(position)))
        line = self.lineEdit()
        assert line is not None
        line.editingFinished.connect(self._on_edited)

    @property
    def angle(self) -> float | None:
        """Degrees; None if unknown."""
        return self._value or None

    def value(self) -> float:
        """Degrees; 0 if unknown."""
        return self._value

    def setValue(self, degrees: float) -> None:
        """Set the angle; 0 means unknown."""
        before, self._value = self._value, min(max(0.0, float(degrees)), _LARGEST)
        self.setEditText(self._text(self._value))
        if self._value != before:
            self.valueChanged.emit(self._value)

    def text(self) -> str:
        """The displayed text: ``45°`` or ``unknown``."""
        return self.currentText()

    def set_model_angle(self, degrees: float | None) -> None:
        """Add and mark the model's training angle among the presets."""
        if degrees != self._model_angle:
            self._model_angle = degrees
            self._list_presets()

    def _list_presets(self) -> None:
        with signals_blocked(self):
            self.clear()
            self.addItem(UNKNOWN, 0.0)
            for degrees in sorted({*PRESETS, *([self._model_angle] if self._model_angle else [])}):
                note = "  as in training" if degrees == self._model_angle else ""
                self.addItem(f"{degrees:g}°{note}", float(degrees))
            self.setEditText(self._text(self._value))

    def _on_edited(self) -> None:
        """Apply the typed angle; restore the former one if the text is not a number."""
        typed = self.currentText().strip().removesuffix("°").replace(",", ".").strip()
        if typed in ("", UNKNOWN):
            self.setValue(0)
            return
        try:
            self.setValue(float(typed.split("°")[0]))
        except ValueError:
            self.setEditText(self._text(self._value))

    @staticmethod
    def _text(degrees: float) -> str:
        return f"{degrees:g}°" if degrees else UNKNOWN
