"""A dialog to edit a recipe as a form or as YAML."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from qtpy.QtCore import Signal
from qtpy.QtGui import QFontDatabase
from qtpy.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QPlainTextEdit,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)
from superqt.utils import QSignalDebouncer, signals_blocked

from napari_msankd.widgets.wrapping_label import WrappingLabel
from napari_msankd.workers import as_failure
from src_training.errors import InputError
from src_training.io.yaml_json import parse_yaml

if TYPE_CHECKING:
    from src_training.config.recipe import Recipe

_FORM, _YAML = 0, 1
_FILES = "Recipes (*.yaml *.yml)"


class RecipeEditor(QDialog):
    """Edit all fields of a recipe, as a form or as YAML.

    The form is generated from the recipe's type. Both tabs show the same recipe. While
    a value is invalid, a message says why, and OK, Save and the other tab are disabled.

    Parameters
    ----------
    recipe
        Initial recipe.
    parent
        Qt parent.
    temporary
        Folder that is deleted with the parent; saving a recipe that refers to images
        in it gives a warning.

    Attributes
    ----------
    changed
        Emitted with each new `recipe`.
    """

    changed = Signal()

    def __init__(
        self, recipe: "Recipe", parent: QWidget | None = None, temporary: Path | None = None
    ) -> None:
        # Import late, because it loads torch; a caller with a recipe has already loaded it.
        from napari_msankd.training.recipe_editor.form import RecipeForm

        super().__init__(parent)
        self.setWindowTitle("Recipe")
        self.resize(860, 600)
        self._recipe, self._temporary = recipe, temporary
        self.form = RecipeForm(type(recipe))
        self.yaml = QPlainTextEdit()
        self.yaml.setFont(QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont))
        self.yaml.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        self.yaml.setToolTip("The same recipe as text; changes here change the form")
        self.tabs = QTabWidget()
        self.tabs.addTab(self.form, "&Form")
        self.tabs.addTab(self.yaml, "&YAML")
        self.message = WrappingLabel()
        self.message.setToolTip("What is wrong with the recipe, and what is expected")
        layout = QVBoxLayout(self)
        for part in (self.tabs, self.message, self._buttons()):
            layout.addWidget(part)
        self._show(recipe)
        self._typing = QSignalDebouncer(parent=self)
        self._typing.setTimeout(250)
        self._typing.triggered.connect(self._validate)
        self.form.changed.connect(self._validate)
        self.yaml.textChanged.connect(self._typing.throttle)
        self.tabs.currentChanged.connect(self._on_tab)

    @property
    def recipe(self) -> "Recipe":
        """The last valid recipe."""
        return self._recipe

    def load(self, path: Path) -> None:
        """Load a recipe from a file; if it is invalid, show a message and keep the current one."""
        notes: list[str] = []
        try:
            recipe = type(self._recipe).load(path, notes=notes)
        except (InputError, OSError) as error:
            self.message.setText(f"✕ {as_failure(error).sentence}")
            return
        self._show(recipe)
        self._set_recipe(recipe)
        self.message.setText("\n".join(f"⚠ {note}." for note in notes))

    def save(self, path: Path) -> None:
        """Write the recipe to a file."""
        try:
            self._recipe.save(path)
        except OSError as error:
            self.message.setText(f"✕ {as_failure(error).sentence}")
            return
        text = f"✓ Saved as {path}."
        domains = (*self._recipe.sources, *self._recipe.tests, *self._recipe.unlabelled)
        folders = [Path(domain.folder) for domain in domains if domain.folder]
        temporary = self._temporary
        if temporary is not None and any(folder.is_relative_to(temporary) for folder in folders):
            text += (
                "\n⚠ The images of open layers are stored only until this window closes. Once a "
                "run has started, its own folder has a copy, and recipe.yaml there refers to it."
            )
        self.message.setText(text)

    def accept(self) -> None:
        """Close the dialog if the recipe is valid."""
        if self._validate():
            super().accept()

    def _buttons(self) -> QWidget:
        kinds = QDialogButtonBox.StandardButton
        self.buttons = QDialogButtonBox(kinds.Ok | kinds.Cancel)
        role = QDialogButtonBox.ButtonRole.ResetRole
        load, self._save = (self.buttons.addButton(t, role) for t in ("&Load…", "&Save…"))
        self._ok = self.buttons.button(kinds.Ok)
        load.setToolTip("Load a recipe from a YAML file")
        self._save.setToolTip("Save this recipe as a YAML file")
        self._ok.setToolTip("Use this recipe")
        self.buttons.button(kinds.Cancel).setToolTip("Discard the changes")
        load.clicked.connect(self._on_load)
        self._save.clicked.connect(self._on_save)
        self.buttons.accepted.connect(self.accept)
        self.buttons.rejected.connect(self.reject)
        return self.buttons

    def _on_load(self) -> None:
        name, _ = QFileDialog.getOpenFileName(self, "Load a recipe", "", _FILES)
        if name:
            self.load(Path(name))

    def _on_save(self) -> None:
        start = f"{self._recipe.name}.yaml"
        name, _ = QFileDialog.getSaveFileName(self, "Save the recipe", start, _FILES)
        if name:
            self.save(Path(name))

    def _on_tab(self) -> None:
        self._typing.cancel()
        self._show(self._recipe)

    def _show(self, recipe: "Recipe") -> None:
        """Show a recipe in the current tab; the other one is updated when it is opened."""
        if self.tabs.currentIndex() == _FORM:
            with signals_blocked(self.form):
                self.form.value = recipe.model_dump(mode="json")
        else:
            with signals_blocked(self.yaml):
                self.yaml.setPlainText(recipe.to_yaml())

    def _validate(self) -> bool:
        """Set the recipe from the current tab if it is valid; return whether it is."""
        try:
            content = self.form.value if self.tabs.currentIndex() == _FORM else self._parse()
            recipe = type(self._recipe).validated(content, "The recipe")
        except InputError as error:
            self._set_fault(str(error))
            return False
        self._set_recipe(recipe)
        return True

    def _set_recipe(self, recipe: "Recipe") -> None:
        self._set_fault("")
        if recipe != self._recipe:
            self._recipe = recipe
            self.changed.emit()

    def _set_fault(self, sentence: str) -> None:
        self.message.setText(f"✕ {sentence}" if sentence else "")
        for button in (self._ok, self._save):
            button.setEnabled(not sentence)
        other = _YAML if self.tabs.currentIndex() == _FORM else _FORM
        self.tabs.setTabEnabled(other, not sentence)

    def _parse(self) -> Any:
        try:
            return parse_yaml(self.yaml.toPlainText())
        except yaml.YAMLError as error:
            raise InputError(f"The recipe is not YAML: {error}") from None
