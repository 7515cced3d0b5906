"""A dialog of the user's models with their scores, to rename, delete or reveal them."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from qtpy.QtCore import QFile, QObject, QUrl, Signal
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import (
    QAbstractItemView,
    QDialog,
    QDialogButtonBox,
    QHBoxLayout,
    QInputDialog,
    QMessageBox,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_msankd.formatting import literal
from napari_msankd.widgets.layout import push_button
from napari_msankd.widgets.wrapping_label import WrappingLabel
from src_training.errors import InputError
from src_training.evaluation.verdict import VALIDATION
from src_training.runs.library import Library, ModelEntry

_COLUMNS = ("Model", "Segments", "Trained on", "Dice, validation", "Dice, test", "Date", "From")
_ORIGINS = {"shipped": "shipped", "run": "your run", "file": "model file"}


class LibraryChanges(QObject):
    """Signals additions, deletions and renames of models to all lists of models."""

    changed = Signal()


library_changes = LibraryChanges()


class ModelDialog(QDialog):
    """All models in a table, with buttons to rename, delete and reveal.

    Parameters
    ----------
    library
        Library of the models.
    parent
        Qt parent.
    """

    def __init__(self, library: Library, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Models")
        self.resize(900, 420)
        self.library = library
        self.entries: list[ModelEntry] = []
        self.table = QTableWidget(0, len(_COLUMNS))
        self.table.setHorizontalHeaderLabels(_COLUMNS)
        self.table.verticalHeader().hide()
        self.table.horizontalHeader().setStretchLastSection(True)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.itemSelectionChanged.connect(self._enable)
        self.rename = push_button("&Rename…", "Give the model, or its run, another name")
        self.delete = push_button("&Delete…", "Move the model, or its whole run, to the trash")
        self.reveal = push_button("&Show in file manager", "Open the folder that the file lies in")
        self.status = WrappingLabel()
        self.status.setToolTip("What could not be done, and why")
        self.rename.clicked.connect(self._ask_for_name)
        self.delete.clicked.connect(self._ask_to_delete)
        self.reveal.clicked.connect(self._show_folder)
        close = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        close.rejected.connect(self.reject)
        row = QHBoxLayout()
        for button in (self.rename, self.delete, self.reveal):
            button.setAutoDefault(False)
            row.addWidget(button)
        row.addStretch(1)
        row.addWidget(close)
        layout = QVBoxLayout(self)
        layout.addWidget(self.table, 1)
        layout.addWidget(self.status)
        layout.addLayout(row)
        self.refresh()

    @property
    def entry(self) -> ModelEntry | None:
        """The selected model; None if there is none."""
        row = self.table.currentRow()
        return self.entries[row] if 0 <= row < len(self.entries) else None

    def choose(self, path: Path | None) -> None:
        """Select the model with this path, or else the first one."""
        rows = [row for row, entry in enumerate(self.entries) if entry.path == path]
        self.table.selectRow(rows[0] if rows else 0)

    def refresh(self) -> None:
        """List the models again."""
        self.entries = self.library.list_models()
        self.table.setRowCount(len(self.entries))
        for row, entry in enumerate(self.entries):
            for column, text in enumerate(_cells(entry)):
                item = QTableWidgetItem(text)
                item.setToolTip(literal(entry_tip(entry)))
                self.table.setItem(row, column, item)
        self.table.resizeColumnsToContents()
        self.status.setText("\n".join(self.library.unreadable()))
        self._enable()

    def rename_to(self, name: str) -> None:
        """Rename the selected model."""
        if self.entry is not None:
            self._change(lambda entry: self.library.rename(entry, name))

    def remove(self) -> None:
        """Move the selected model to the trash; only unlist one outside the library's folders."""
        if self.entry is not None:
            self._change(self._remove)

    def _remove(self, entry: ModelEntry) -> None:
        if self.library.is_elsewhere(entry):
            self.library.forget(entry)
            return
        path = self.library.removable(entry)
        if not QFile(str(path)).moveToTrash():
            raise InputError(f"{path} could not be moved to the trash; delete it in a file manager")

    def _change(self, change: Callable[[ModelEntry], object]) -> None:
        entry = self.entry
        assert entry is not None
        try:
            change(entry)
        except (InputError, OSError) as error:
            self.status.setText(f"⚠ {error}")
            return
        self.refresh()
        self.choose(entry.path)
        library_changes.changed.emit()

    def _enable(self) -> None:
        editable = self.entry is not None and self.entry.origin != "shipped"
        self.rename.setEnabled(editable)
        self.delete.setEnabled(editable)
        self.reveal.setEnabled(self.entry is not None)
        elsewhere = self.entry is not None and self.library.is_elsewhere(self.entry)
        self.delete.setText("&Remove from list" if elsewhere else "&Delete…")

    def _ask_for_name(self) -> None:
        assert self.entry is not None
        name, accepted = QInputDialog.getText(self, "Rename", "Name", text=self.entry.name)
        if accepted:
            self.rename_to(name)

    def _ask_to_delete(self) -> None:
        assert self.entry is not None
        try:
            question = deletion_question(self.entry, self.library)
        except InputError as error:
            self.status.setText(f"⚠ {error}")
            return
        answer = QMessageBox.question(self, "Delete", literal(question)) if question else None
        if answer in (None, QMessageBox.StandardButton.Yes):
            self.remove()

    def _show_folder(self) -> None:
        assert self.entry is not None
        QDesktopServices.openUrl(QUrl.fromLocalFile(str(self.entry.path.parent)))


def deletion_question(entry: ModelEntry, library: Library) -> str:
    """The question before a model is deleted; empty if it is only unlisted."""
    if library.is_elsewhere(entry):
        return ""
    path = library.removable(entry)
    if entry.run is None:
        return f"Move the model “{entry.name}” to the trash?\n\n{path}"
    return (
        f"Move the whole run “{entry.name}” to the trash: its models, checkpoints and report?"
        f"\n\n{path}"
    )


def entry_text(entry: ModelEntry) -> str:
    """One line about a model: ``"mine · distilled ★  Dice 0.75 (DRIVE)  30 Nov 2026"``."""
    parts = [f"{entry.title} ★" if entry.better else entry.title]
    if scored := entry.test_dice or entry.validation_dice:
        parts.append(f"Dice {scored[1]:.3f} ({scored[0]})")
    if entry.origin != "shipped" and entry.created:
        parts.append(_date(entry.created))
    return "   ".join(parts)


def entry_tip(entry: ModelEntry) -> str:
    """Multi-line description of a model."""
    scores = ", ".join(f"{dice:.3f} on {domain}" for domain, dice in entry.dice.items())
    lines = [
        "★ Higher Dice than the other student of its run" if entry.better else "",
        f"Segments {', '.join(entry.classes[1:])} · network {entry.architecture}",
        f"Trained on {', '.join(entry.sources)}" if entry.sources else "",
        f"Dice {scores}" if scores else "Dice not measured",
        f"Created {_date(entry.created)}" if entry.created else "",
        str(entry.path),
    ]
    return "\n".join(line for line in lines if line)


def _cells(entry: ModelEntry) -> tuple[str, ...]:
    return (
        f"{entry.title} ★" if entry.better else entry.title,
        ", ".join(entry.classes[1:]),
        ", ".join(entry.sources) or "—",
        _score(entry.validation_dice),
        _score(entry.test_dice),
        _date(entry.created) or "—",
        _ORIGINS[entry.origin],
    )


def _score(scored: tuple[str, float] | None) -> str:
    return "—" if scored is None else f"{scored[1]:.3f} ({scored[0].removesuffix(VALIDATION)})"


def _date(created: str) -> str:
    """A date such as ``"30 Nov 2026"``; empty if unknown."""
    try:
        return datetime.fromisoformat(created).astimezone().strftime("%d %b %Y").lstrip("0")
    except ValueError:
        return ""
