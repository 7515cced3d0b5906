"""Field of view of a fundus camera."""

from qtpy.QtWidgets import QDoubleSpinBox


class CameraAngle(QDoubleSpinBox):
    """Degrees that a fundus camera's field of view spans, or that nobody knows."""

    def __init__(self) -> None:
        super().__init__()
        self.setRange(0, 200)
        self.setDecimals(0)
        self.setSingleStep(5)
        self.setSuffix("°")
        self.setSpecialValueText("angle not known")
        self.setAccessibleName("Angle of the fundus camera")
        self.setToolTip(
            "Degrees that the fundus camera's field of view spans, such as 30 or 45; images of "
            "all cameras are then brought to as many pixels a degree"
        )

    @property
    def angle(self) -> float | None:
        """Degrees; None if not known."""
        return self.value() or None
