"""The recipe as a form with pages of fields and a search over all of them."""

from typing import Any

from pydantic import BaseModel
from qtpy.QtCore import Signal
from qtpy.QtGui import QKeySequence, QShortcut
from qtpy.QtWidgets import (
    QHBoxLayout,
    QLineEdit,
    QListWidget,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from napari_msankd.widgets.layout import VerticalScrollArea
from napari_msankd.widgets.model_form import (
    Editors,
    Group,
    ModelForm,
    ModelTable,
    OptionalForm,
    choice,
    filter_rows,
    set_tab_order,
)
from napari_msankd.widgets.wrapping_label import WrappingLabel
from src_training.config.recipe import NetworkRecipe, Recipe
from src_training.config.stages import STAGES, StageSchedule
from src_training.distillation import METHODS
from src_training.networks import NETWORKS

Values = dict[str, Any]

PAGES = {
    "General": ("name", "description", "licence", "seed"),
    "Sources": ("source_sampling", "validation", "labelled", "sources"),
    "Test sets": ("tests",),
    "Without masks": ("unlabelled",),
    "Images": ("patch", "preprocessing", "augmentation"),
    "Networks": ("teacher", "student", "latent", "hidden", "alignment"),
    "Training": ("supervised", "weight_decay", "stages"),
    "Distillation": ("distil_from", "distillation"),
}
"""Page -> its fields; fields that are not listed are on the first page."""


class RecipeForm(QWidget):
    """A form of all fields of a recipe; pages are created when first shown or searched.

    Parameters
    ----------
    model
        Type of the recipe.

    Attributes
    ----------
    changed
        Emitted when the user changes a value.
    """

    changed = Signal()

    def __init__(self, model: type[BaseModel]) -> None:
        super().__init__()
        self._model, self._fields = model, _fields_by_page(model)
        self._pages: dict[str, ModelForm] = {}
        self._values = Values()
        self.search = QLineEdit()
        self.search.setPlaceholderText("Search all pages")
        self.search.setToolTip("Show only fields whose name or description has this text (Ctrl+F)")
        self.search.setClearButtonEnabled(True)
        QShortcut(QKeySequence(QKeySequence.StandardKey.Find), self, self.search.setFocus)
        self.list = QListWidget()
        self.list.setToolTip("Pages of the recipe")
        self.list.addItems(list(self._fields))
        self.no_match = WrappingLabel()
        self._stack = QStackedWidget()
        for _ in self._fields:
            self._stack.addWidget(VerticalScrollArea(QWidget()))
        side = QWidget()
        side.setFixedWidth(160)
        column = QVBoxLayout(side)
        column.setContentsMargins(0, 0, 0, 0)
        for part in (self.search, self.no_match, self.list):
            column.addWidget(part)
        row = QHBoxLayout(self)
        row.addWidget(side)
        row.addWidget(self._stack, 1)
        self.list.currentTextChanged.connect(self._on_page)
        self.search.textChanged.connect(self.filter)

    @property
    def value(self) -> Values:
        """Field -> value, for `Recipe.validated`."""
        edited = {
            name: value for page in self._pages.values() for name, value in page.value.items()
        }
        return self._values | edited

    @value.setter
    def value(self, values: Values) -> None:
        self._values = values
        for page in self._pages.values():
            page.value = values
        if self.list.currentRow() < 0:
            self.list.setCurrentRow(0)
        if self.search.text():
            self.filter(self.search.text())

    def page(self, title: str) -> ModelForm:
        """The form of a page."""
        if title not in self._pages:
            page = ModelForm(self._model, self._fields[title], EDITORS)
            page.value = self._values
            page.changed.connect(self._on_change)
            area = self._stack.widget(list(self._fields).index(title))
            area.setWidget(page.native)
            page.native.layout().addStretch(1)
            set_tab_order(self.list, page)
            self._pages[title] = page
        return self._pages[title]

    def filter(self, text: str) -> None:
        """Show only fields that match a text, and pages with such fields."""
        matches = [filter_rows(self.page(title), text.strip().lower()) for title in self._fields]
        for row, match in enumerate(matches):
            self.list.item(row).setHidden(not match)
        self._stack.setVisible(any(matches))
        self.no_match.setText("" if any(matches) else "No field has this text.")
        if any(matches) and not matches[self.list.currentRow()]:
            self.list.setCurrentRow(matches.index(True))

    def _on_page(self, title: str) -> None:
        self.page(title)
        self._stack.setCurrentIndex(self.list.currentRow())

    def _on_change(self) -> None:
        self.changed.emit()


class MethodsForm(Group):
    """A checkbox for each distillation method, with its options while it is checked."""

    def __init__(self, **named: Any) -> None:
        forms = {
            name: OptionalForm(
                spec.options,
                [field for field in spec.options.model_fields if field != "method"],
                name=name,
                label=spec.title[:1].upper() + spec.title[1:],
                tooltip=f"{spec}\nIn YAML: {name}",
            )
            for name, spec in METHODS.items()
        }
        super().__init__(list(forms.values()), **named)
        self._order: list[str] = []

    @property
    def value(self) -> list[Values]:
        """Options of the checked methods; in the order of the recipe, then new ones."""
        names = dict.fromkeys([*self._order, *METHODS])
        values = {name: self[name].value for name in names}
        return [{"method": name, **opts} for name, opts in values.items() if opts is not None]

    @value.setter
    def value(self, values: list[Values]) -> None:
        options = {value["method"]: value for value in values}
        self._order = list(options)
        for form in self:
            form.value = options.get(form.name)

    def show_row(self, row: int, shown: bool) -> None:
        """Show or hide a method."""
        self[row].visible = shown


def _networks(**named: Any) -> Any:
    return choice(list(NETWORKS), "that of the model", **named)


def _stages(**named: Any) -> ModelTable:
    return ModelTable(StageSchedule, {name: spec.title for name, spec in STAGES.items()}, **named)


EDITORS: Editors = {
    (NetworkRecipe, "name"): _networks,
    (Recipe, "stages"): _stages,
    (Recipe, "distillation"): MethodsForm,
}


def _fields_by_page(model: type[BaseModel]) -> dict[str, list[str]]:
    named = {field for fields in PAGES.values() for field in fields}
    pages = {
        title: [field for field in fields if field in model.model_fields]
        for title, fields in PAGES.items()
    }
    pages["General"] += [field for field in model.model_fields if field not in named]
    return pages
