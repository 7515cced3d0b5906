"""The whole recipe, as a form and as YAML."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from qtpy.QtCore import QTimer, Signal
from qtpy.QtGui import QFontDatabase
from qtpy.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QHBoxLayout,
    QListWidget,
    QPlainTextEdit,
    QScrollArea,
    QStackedWidget,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from napari_msankd.training.recipe_editor.fields import LOADER
from napari_msankd.training.recipe_editor.form import Content
from napari_msankd.training.recipe_editor.pages import pages
from napari_msankd.widgets.wrapping_label import WrappingLabel
from napari_msankd.workers import Failure, Worker
from src_training.config.yaml_io import first_words
from src_training.errors import InputError

if TYPE_CHECKING:
    from src_training.config.recipe import Recipe

_FORM, _YAML = 0, 1
_REST_MS = 250
_KINDS = "Recipes (*.yaml *.yml)"


class RecipeEditor(QDialog):
    """Everything a run depends on, to be read and changed.

    The form is made from the typed recipe: a field that the recipe gains is
    there by itself. The YAML always says the same. While a value is bad, the
    fault is said in one sentence and neither OK nor the other tab is to be had.

    Parameters
    ----------
    recipe
        What it begins with.
    parent
        Where it belongs.
    passing
        Folder that goes with the parent: who saves a recipe of images there
        is told.

    Attributes
    ----------
    changed
        Emitted with each new `recipe`.
    """

    changed = Signal()

    def __init__(
        self, recipe: "Recipe", parent: QWidget | None = None, passing: Path | None = None
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle("Recipe")
        self.resize(720, 540)
        self._recipe = recipe
        self._passing = passing
        self._works: list[Worker] = []
        self._read_soon = QTimer(self)
        self._read_soon.setSingleShot(True)
        self._read_soon.setInterval(_REST_MS)
        self._read_soon.timeout.connect(self._read)
        self.form = RecipeForm(type(recipe))
        self.yaml = QPlainTextEdit()
        self.yaml.setFont(QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont))
        self.yaml.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        self.yaml.setToolTip("The same recipe as text; what is changed here changes the form")
        self.tabs = QTabWidget()
        self.tabs.addTab(self.form, "&Form")
        self.tabs.addTab(self.yaml, "&YAML")
        self.fault = WrappingLabel()
        self.fault.setToolTip("What is wrong with the recipe, and what is expected")
        layout = QVBoxLayout(self)
        for part in (self.tabs, self.fault, self._buttons()):
            layout.addWidget(part)
        self._show(recipe)
        self.form.changed.connect(self._read)
        self.yaml.textChanged.connect(self._read_soon.start)
        self.tabs.currentChanged.connect(self._on_tab)

    @property
    def recipe(self) -> "Recipe":
        """The last recipe without a fault."""
        return self._recipe

    def load(self, path: Path) -> None:
        """Take the recipe of a file; a broken one is said, and changes nothing."""
        self._begin(_loaded(type(self._recipe), path), self._on_loaded)

    def save(self, path: Path) -> None:
        """Write the recipe to a file."""
        self._begin(_saved(self._recipe, path, self._passing), self._say)

    def accept(self) -> None:
        """Close, unless there is a fault."""
        if self._read():
            super().accept()

    def _buttons(self) -> QWidget:
        kinds = QDialogButtonBox.StandardButton
        self.buttons = QDialogButtonBox(kinds.Ok | kinds.Cancel)
        role = QDialogButtonBox.ButtonRole.ResetRole
        load, self._save = (self.buttons.addButton(t, role) for t in ("&Load…", "&Save…"))
        self._ok = self.buttons.button(kinds.Ok)
        told = {
            load: "Take a recipe from a YAML file",
            self._save: "Write this recipe to a YAML file",
            self._ok: "Use this recipe",
            self.buttons.button(kinds.Cancel): "Leave the recipe as it was",
        }
        for button, words in told.items():
            button.setToolTip(words)
        load.clicked.connect(self._on_load)
        self._save.clicked.connect(self._on_save)
        self.buttons.accepted.connect(self.accept)
        self.buttons.rejected.connect(self.reject)
        return self.buttons

    def _on_load(self) -> None:
        name, _ = QFileDialog.getOpenFileName(self, "Load a recipe", "", _KINDS)
        if name:
            self.load(Path(name))

    def _on_save(self) -> None:
        start = f"{self._recipe.name}.yaml"
        name, _ = QFileDialog.getSaveFileName(self, "Save the recipe", start, _KINDS)
        if name:
            self.save(Path(name))

    def _on_loaded(self, loaded: "tuple[Recipe, list[str]]") -> None:
        recipe, notes = loaded
        self._show(recipe)
        self._take(recipe)
        if notes:
            self._say("\n".join(f"⚠ {note}." for note in notes))

    def _on_tab(self, _tab: int) -> None:
        self._read_soon.stop()
        self._show(self._recipe)

    def _show(self, recipe: "Recipe") -> None:
        """Let the side in sight say what the recipe says; the other follows when it is seen."""
        side: Any = self.form if self.tabs.currentIndex() == _FORM else self.yaml
        side.blockSignals(True)
        if side is self.form:
            self.form.content = recipe.model_dump(mode="json")
        else:
            self.yaml.setPlainText(recipe.to_yaml())
        side.blockSignals(False)

    def _read(self) -> bool:
        """Judge what the side in sight says; whether it is a recipe."""
        self._read_soon.stop()
        try:
            content = self.form.content if self.tabs.currentIndex() == _FORM else self._parsed()
            recipe = type(self._recipe).validated(content, "The recipe")
        except InputError as error:
            self._stand(str(error))
            return False
        self._take(recipe)
        return True

    def _take(self, recipe: "Recipe") -> None:
        self._stand("")
        if recipe != self._recipe:
            self._recipe = recipe
            self.changed.emit()

    def _stand(self, fault: str) -> None:
        self._say(f"✕ {fault}" if fault else "")
        for button in (self._ok, self._save):
            button.setEnabled(not fault)
        other = _YAML if self.tabs.currentIndex() == _FORM else _FORM
        self.tabs.setTabEnabled(other, not fault)

    def _parsed(self) -> Any:
        try:
            return yaml.load(self.yaml.toPlainText(), LOADER)
        except yaml.YAMLError as error:
            raise InputError(f"The recipe is not YAML: {first_words(error)}") from None

    def _begin(self, steps: Iterator[Any], yielded: Callable[[Any], None]) -> None:
        work = Worker(steps, self)
        work.yielded.connect(yielded)
        work.failed.connect(self._on_failed)
        work.start()

    def _on_failed(self, failure: Failure) -> None:
        self._say(f"✕ {failure.sentence}")

    def _say(self, words: str) -> None:
        self.fault.setText(words)


class RecipeForm(QWidget):
    """Pages of the form and the list of them; each is made when it is first seen.

    Parameters
    ----------
    model
        Type of the recipe.

    Attributes
    ----------
    changed
        Emitted when a person changes a value.
    """

    changed = Signal()

    def __init__(self, model: type) -> None:
        super().__init__()
        self._pages = pages(model)
        self._editors: dict[str, Any] = {}
        self._content = Content()
        self._stack = QStackedWidget()
        self.list = QListWidget()
        self.list.setToolTip("Parts of the recipe")
        self.list.setFixedWidth(130)
        for page in self._pages:
            self.list.addItem(page.title)
            self._stack.addWidget(QScrollArea())
        row = QHBoxLayout(self)
        row.addWidget(self.list)
        row.addWidget(self._stack, 1)
        self.list.currentRowChanged.connect(self._on_row)

    @property
    def content(self) -> Content:
        """What `Recipe.validated` takes."""
        content = dict(self._content)
        for name, editor in self._editors.items():
            content |= {name: editor.value} if name else editor.value
        return content

    @content.setter
    def content(self, content: Content) -> None:
        self._content = content
        for name in self._editors:
            self._fill(name)
        if self.list.currentRow() < 0:
            self.list.setCurrentRow(0)

    def editor(self, name: str) -> Any:
        """The editor of a group of fields; of all that are in none, if `name` is empty."""
        if name not in self._editors:
            row = next(i for i, page in enumerate(self._pages) if page.name == name)
            editor = self._editors[name] = self._pages[row].make()
            self._fill(name)
            editor.changed.connect(self.changed)
            _fill_page(self._stack.widget(row), editor, self._pages[row].doc)
        return self._editors[name]

    def _on_row(self, row: int) -> None:
        self.editor(self._pages[row].name)
        self._stack.setCurrentIndex(row)

    def _fill(self, name: str) -> None:
        self._editors[name].value = self._content[name] if name else self._content


def _fill_page(area: QScrollArea, editor: QWidget, doc: str) -> None:
    """A page that scrolls, with what its part is for above."""
    inside, told = QWidget(), WrappingLabel()
    layout = QVBoxLayout(inside)
    layout.addWidget(told)
    layout.addWidget(editor)
    layout.addStretch(1)
    told.setText(doc)
    area.setWidgetResizable(True)
    area.setFrameShape(QScrollArea.Shape.NoFrame)
    area.setWidget(inside)


def _loaded(model: "type[Recipe]", path: Path) -> Iterator["tuple[Recipe, list[str]]"]:
    notes: list[str] = []
    yield model.load(path, notes=notes), notes


def _saved(recipe: "Recipe", path: Path, passing: Path | None) -> Iterator[str]:
    recipe.save(path)
    domains = (*recipe.sources, *recipe.tests)
    folders = [Path(domain.folder) for domain in domains if domain.folder]
    words = f"✓ Saved as {path}."
    if passing is not None and any(folder.is_relative_to(passing) for folder in folders):
        words += (
            "\n⚠ The images of open layers are kept until this window closes; recipe.yaml of a "
            "run that was started has them in the run's own folder."
        )
    yield words
