"""A word-wrapping label that fits its height to its text."""

from qtpy.QtCore import QEvent, Qt
from qtpy.QtGui import QResizeEvent
from qtpy.QtWidgets import QLabel


class WrappingLabel(QLabel):
    """Plain text with word wrap; QLabel's own wrapped text is clipped in a dock."""

    def __init__(self, text: str = "") -> None:
        super().__init__()
        self.setWordWrap(True)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setText(text)

    def setText(self, text: str) -> None:
        """Show a text; an empty label is hidden."""
        if text == self.text():
            # QLabel triggers a new layout of the whole window even if the text is the same.
            return
        super().setText(text)
        self._show()
        self._fit()

    def clear(self) -> None:
        """Clear and hide the label; QLabel's own method keeps the height."""
        self.setText("")

    def event(self, event: QEvent) -> bool:
        """Show or hide it once it has a parent; without one it would open as a window."""
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
        # Reset the minimum first, which otherwise counts in `heightForWidth`.
        self.setMinimumHeight(0)
        self.setMinimumHeight(max(0, self.heightForWidth(self.width())))
