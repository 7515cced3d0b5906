"""A dialog with the traceback of an error."""

from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import QDialog, QDialogButtonBox, QPlainTextEdit, QVBoxLayout, QWidget


def show_traceback(parent: QWidget, error: str) -> QDialog:
    """Open a window with a traceback and a button that copies it."""
    dialog = QDialog(parent)
    dialog.setWindowTitle("What went wrong")
    dialog.resize(640, 400)
    text = QPlainTextEdit(error)
    text.setReadOnly(True)
    buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
    copy = buttons.addButton("Copy", QDialogButtonBox.ButtonRole.ActionRole)
    copy.clicked.connect(lambda: QGuiApplication.clipboard().setText(error))
    buttons.rejected.connect(dialog.reject)
    layout = QVBoxLayout(dialog)
    layout.addWidget(text)
    layout.addWidget(buttons)
    dialog.show()
    return dialog
