"""Editors of whole models: a form, a table, a list, made from their types."""

from collections.abc import Sequence
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QFormLayout,
    QGridLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_msankd.training.recipe_editor.field_docs import field_docs, summary
from napari_msankd.training.recipe_editor.fields import ChoiceField, Field, field_for, without_none

Content = dict[str, Any]


class ModelForm(QWidget):
    """A row for each field of a model, groups of fields in boxes below each other.

    Parameters
    ----------
    model
        Whose fields.
    names
        Which of them; all if missing.
    """

    changed = Signal()

    def __init__(self, model: type[BaseModel], names: list[str] | None = None) -> None:
        super().__init__()
        self.editors: dict[str, Any] = {}
        rows = QFormLayout(self)
        rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        rows.setContentsMargins(0, 0, 0, 0)
        docs = field_docs(model)
        for name in model.model_fields if names is None else names:
            editor = self.editors[name] = editor_of(model, name)
            editor.changed.connect(self.changed)
            words = docs.get(name) or summary(model)
            editor.setToolTip(words)
            if isinstance(editor, QGroupBox):
                rows.addRow(editor)
                continue
            label = QLabel(said(name))
            label.setToolTip(words)
            label.setBuddy(editor)
            rows.addRow(label, editor)

    @property
    def value(self) -> Content:
        """Field name -> value."""
        return {name: editor.value for name, editor in self.editors.items()}

    @value.setter
    def value(self, value: Content) -> None:
        for name, editor in self.editors.items():
            editor.value = value[name]


class ModelBox(QGroupBox):
    """A model within another.

    Parameters
    ----------
    model, name
        Of the field.
    optional
        Whether it may be missing: the title then has a tick.
    """

    changed = Signal()

    def __init__(self, model: type[BaseModel], name: str, optional: bool) -> None:
        super().__init__(said(name))
        self.setCheckable(optional)
        self.form = ModelForm(model)
        self._optional = optional
        self._model = model
        layout = QVBoxLayout(self)
        layout.addWidget(self.form)
        self.form.changed.connect(self.changed)
        self.toggled.connect(self.changed)

    @property
    def value(self) -> Content | None:
        """Of the model; None if it is missing."""
        return self.form.value if not self._optional or self.isChecked() else None

    @value.setter
    def value(self, value: Content | None) -> None:
        if self._optional:
            self.setChecked(value is not None)
        self.form.value = value if value is not None else blank(self._model)


class ModelTable(QWidget):
    """A row for each of several models of one type, such as the schedules of stages.

    Parameters
    ----------
    model
        Their type.
    names
        What each row is called.
    """

    changed = Signal()

    def __init__(self, model: type[BaseModel], names: Sequence[str]) -> None:
        super().__init__()
        self.rows: dict[str, dict[str, Field]] = {}
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        for row, name in enumerate(names, 1):
            grid.addWidget(QLabel(said(name)), row, 0)
            self.rows[name] = self._row(grid, row, name, model)
        grid.setRowStretch(grid.rowCount(), 1)

    def _row(
        self, grid: QGridLayout, row: int, name: str, part: type[BaseModel]
    ) -> dict[str, Field]:
        editors, docs = dict[str, Field](), field_docs(part)
        for column, (field, info) in enumerate(part.model_fields.items(), 1):
            words = docs.get(field) or summary(part)
            if row == 1:
                title = QLabel(said(field))
                title.setToolTip(words)
                grid.addWidget(title, 0, column)
            editor = editors[field] = field_for(info)
            editor.setToolTip(words)
            editor.setAccessibleName(f"{said(name)}: {said(field)}")
            editor.setMinimumWidth(40)
            editor.changed.connect(self.changed)
            grid.addWidget(editor, row, column)
        return editors

    @property
    def value(self) -> Content:
        """Row -> field -> value."""
        return {
            name: {field: editor.value for field, editor in row.items()}
            for name, row in self.rows.items()
        }

    @value.setter
    def value(self, value: Content) -> None:
        for name, row in self.rows.items():
            for field, editor in row.items():
                editor.value = value[name][field]


class ModelList(QWidget):
    """Any number of models, each in a box with a button that takes it away.

    Parameters
    ----------
    model
        Type of all of them.
    """

    changed = Signal()

    def __init__(self, model: type[BaseModel]) -> None:
        super().__init__()
        self._model = model
        self.forms: list[ModelForm] = []
        self.add = QPushButton("&Add")
        self.add.setToolTip(f"Add one: {summary(model)}")
        self.add.clicked.connect(self._on_add)
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.addWidget(self.add, alignment=Qt.AlignmentFlag.AlignLeft)
        self._layout.addStretch(1)

    @property
    def value(self) -> list[Content]:
        """Of each, in order."""
        return [form.value for form in self.forms]

    @value.setter
    def value(self, value: list[Content]) -> None:
        while len(self.forms) > len(value):
            self._take(self.forms[-1])
        while len(self.forms) < len(value):
            self._put()
        for form, content in zip(self.forms, value, strict=True):
            form.value = content

    def _on_add(self) -> None:
        self._put().value = blank(self._model)
        self.changed.emit()

    def _on_remove(self, form: ModelForm) -> None:
        self._take(form)
        self.changed.emit()

    def _put(self) -> ModelForm:
        box, form = QGroupBox(), ModelForm(self._model)
        form.changed.connect(self.changed)
        remove = QPushButton("Remove")
        remove.setToolTip("Take this one out of the recipe")
        remove.clicked.connect(lambda: self._on_remove(form))
        foot = QHBoxLayout()
        foot.addStretch(1)
        foot.addWidget(remove)
        layout = QVBoxLayout(box)
        layout.addWidget(form)
        layout.addLayout(foot)
        self._layout.insertWidget(len(self.forms), box)
        self.forms.append(form)
        return form

    def _take(self, form: ModelForm) -> None:
        self.forms.remove(form)
        box = form.parentWidget()
        self._layout.removeWidget(box)
        box.hide()
        box.deleteLater()


def editor_of(model: type[BaseModel], name: str) -> Any:
    """The editor of one field of a model."""
    info = model.model_fields[name]
    kind, optional = without_none(info.annotation)
    if is_model(kind):
        return ModelBox(kind, name, optional)
    if (model.__name__, name) == ("NetworkRecipe", "name"):
        # Whoever has a recipe has torch: this import is free.
        from src_training.networks import NETWORKS

        return ChoiceField(list(NETWORKS))
    return field_for(info)


def blank(model: type[BaseModel]) -> Content:
    """Defaults of a model; empty or the first choice where a field has none."""
    content = Content()
    for name, info in model.model_fields.items():
        kind, _ = without_none(info.annotation)
        if not info.is_required():
            default = info.get_default(call_default_factory=True)
            content[name] = (
                default.model_dump(mode="json") if isinstance(default, BaseModel) else default
            )
        elif is_model(kind):
            content[name] = blank(kind)
        else:
            content[name] = {int: 0, float: 0.0, bool: False, str: ""}.get(kind, _first(kind))
    return content


def said(name: str) -> str:
    """A field's name in words."""
    return name.replace("_", " ")


def _first(kind: Any) -> Any:
    choices = get_args(kind)
    return choices[0] if choices else None


def item_of(kind: Any) -> Any:
    """Type of the items of a list or a dictionary, without what `Annotated` adds."""
    item = get_args(kind)[-1]
    return get_args(item)[0] if get_origin(item) is Annotated else item


def is_model(kind: Any) -> bool:
    """Whether a type is a pydantic model."""
    return isinstance(kind, type) and issubclass(kind, BaseModel)
