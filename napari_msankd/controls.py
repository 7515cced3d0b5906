"""Small pieces that every widget is made of."""

from typing import TYPE_CHECKING

from napari.utils.theme import get_theme
from qtpy.QtCore import QEvent, Qt
from qtpy.QtGui import QResizeEvent
from qtpy.QtWidgets import (
    QDoubleSpinBox,
    QFormLayout,
    QFrame,
    QGroupBox,
    QLabel,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

if TYPE_CHECKING:
    from napari.components import ViewerModel


def emphasised(button: QPushButton, viewer: "ViewerModel") -> None:
    """Let a button stand out, in the colour the viewer's theme has for what is chosen."""

    def dress(_event: object = None) -> None:
        colour = get_theme(viewer.theme).current.as_hex()
        button.setStyleSheet(
            f"QPushButton:enabled {{ background-color: {colour}; font-weight: bold; }}"
        )

    viewer.events.theme.connect(dress)
    button.destroyed.connect(lambda: viewer.events.theme.disconnect(dress))
    dress()


class Words(QLabel):
    """Text as tall as its lines need; a plain wrapping label in a dock is cut off."""

    def __init__(self, text: str = "") -> None:
        super().__init__()
        self.setWordWrap(True)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setText(text)

    def setText(self, text: str) -> None:
        """Show `text`; nothing takes no room."""
        if text == self.text():
            # A label said anew is laid out anew, and the whole window with it.
            return
        super().setText(text)
        self._show()
        self._fit()

    def clear(self) -> None:
        """Show nothing; a label's own keeps the room that its text took."""
        self.setText("")

    def event(self, event: QEvent) -> bool:
        """Show or hide once there is a parent; a label without one would open as a window."""
        if event.type() == QEvent.Type.ParentChange:
            self._show()
        return super().event(event)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Fit the height to the new width."""
        super().resizeEvent(event)
        self._fit()

    def _show(self) -> None:
        if self.parent() is not None:
            self.setVisible(bool(self.text()))

    def _fit(self) -> None:
        # Else the height it had counts as one it needs.
        self.setMinimumHeight(0)
        self.setMinimumHeight(max(0, self.heightForWidth(self.width())))


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


def scrolling(inside: QWidget) -> QScrollArea:
    """A frameless area that scrolls what is too tall for a dock, and never sideways."""
    area = QScrollArea()
    area.setWidget(inside)
    area.setWidgetResizable(True)
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    return area


def group(title: str) -> tuple[QGroupBox, QFormLayout, QVBoxLayout]:
    """A box with rows of controls, and room below them."""
    box, form = QGroupBox(title), QFormLayout()
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
    below = QVBoxLayout(box)
    below.setContentsMargins(8, 12, 8, 8)
    below.addLayout(form)
    return box, form, below
