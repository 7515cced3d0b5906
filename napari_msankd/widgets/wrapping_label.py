"""A label as tall as its text."""

from qtpy.QtCore import QEvent, Qt
from qtpy.QtGui import QResizeEvent
from qtpy.QtWidgets import QLabel


class WrappingLabel(QLabel):
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
