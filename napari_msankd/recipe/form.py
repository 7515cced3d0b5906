"""Editors of whole models: a form, a table, a list, made from their types."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QFormLayout,
    QGridLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_msankd.recipe.field_docs import field_docs, summary
from napari_msankd.recipe.fields import ChoiceField, Field, field_for, without_none
from src_training.config.stages import STAGES

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


class UnionForm(QWidget):
    """One of several models, told apart by their field ``kind``, and the rows of the chosen one.

    Parameters
    ----------
    models
        All of them; each has a ``kind`` of one value.
    """

    changed = Signal()

    def __init__(self, *models: type[BaseModel]) -> None:
        super().__init__()
        self._models = {model.model_fields["kind"].default: model for model in models}
        self._form: ModelForm | None = None
        self._kind = ChoiceField(list(self._models))
        self._kind.setToolTip("\n".join(f"{k}: {summary(m)}" for k, m in self._models.items()))
        rows = QFormLayout()
        rows.addRow("kind", self._kind)
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.addLayout(rows)
        self._show(self._kind.value)
        self._kind.changed.connect(self._on_kind)

    @property
    def editors(self) -> dict[str, Any]:
        """Field name -> editor, of the chosen model."""
        assert self._form is not None
        return {"kind": self._kind, **self._form.editors}

    @property
    def value(self) -> Content:
        """Field name -> value, of the chosen model."""
        return {name: editor.value for name, editor in self.editors.items()}

    @value.setter
    def value(self, value: Content) -> None:
        self._kind.blockSignals(True)
        self._kind.value = value["kind"]
        self._kind.blockSignals(False)
        self._show(value["kind"])
        for name, editor in self.editors.items():
            editor.value = value[name]

    def _on_kind(self) -> None:
        before, kind = self.value, self._kind.value
        self._show(kind)
        # Fields that both models have keep their values.
        for name, value in blank(self._models[kind]).items():
            self.editors[name].value = before.get(name, value)
        self.changed.emit()

    def _show(self, kind: str) -> None:
        """The rows of the model of a kind in place of those shown."""
        if self._form is not None:
            self._layout.removeWidget(self._form)
            self._form.hide()
            self._form.deleteLater()
        model = self._models[kind]
        self._form = ModelForm(model, [name for name in model.model_fields if name != "kind"])
        self._form.changed.connect(self.changed)
        self._layout.addWidget(self._form)


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


class MethodsForm(QWidget):
    """A tick for each distillation method, and its options below while it is ticked."""

    changed = Signal()

    def __init__(self) -> None:
        # Whoever has a recipe has torch: this import is free.
        from src_training.distillation import METHODS

        super().__init__()
        self.ticks: dict[str, QCheckBox] = {}
        self.forms: dict[str, ModelForm] = {}
        self._order: list[str] = []
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for name, spec in METHODS.items():
            tick = self.ticks[name] = QCheckBox(said(name))
            options = [field for field in spec.options.model_fields if field != "method"]
            form = self.forms[name] = ModelForm(spec.options, options)
            tick.setToolTip(str(spec))
            form.value = blank(spec.options)
            form.setContentsMargins(24, 0, 0, 6)
            form.hide()
            tick.toggled.connect(form.setVisible)
            tick.toggled.connect(self.changed)
            form.changed.connect(self.changed)
            layout.addWidget(tick)
            layout.addWidget(form)

    @property
    def value(self) -> list[Content]:
        """Options of each ticked method: in the order of the recipe, then what was added."""
        names = dict.fromkeys([*self._order, *self.ticks])
        ticked = [name for name in names if self.ticks[name].isChecked()]
        return [{"method": name, **self.forms[name].value} for name in ticked]

    @value.setter
    def value(self, value: list[Content]) -> None:
        self._order = [each["method"] for each in value]
        for tick in self.ticks.values():
            tick.setChecked(False)
        for each in value:
            self.forms[each["method"]].value = each
            self.ticks[each["method"]].setChecked(True)


@dataclass(frozen=True)
class Page:
    """A part of a model that is edited by itself.

    Attributes
    ----------
    name
        Of the field; empty for all fields that are no group.
    title, doc
        What it is called, and what it is for.
    make
        Makes its editor.
    """

    name: str
    title: str
    doc: str
    make: Callable[[], Any]


def pages(model: type[BaseModel]) -> list[Page]:
    """A page for the plain fields, then one for every group."""
    grouped = [name for name in model.model_fields if _is_group(model, name)]
    plain = [name for name in model.model_fields if name not in grouped]
    first = Page("", "General", summary(model), partial(ModelForm, model, plain))
    return [first, *(_page_of(model, name) for name in grouped)]


def _page_of(model: type[BaseModel], name: str) -> Page:
    kind, _ = without_none(model.model_fields[name].annotation)
    if _is_union(kind):
        doc = field_docs(model).get(name, "")
        return Page(name, said(name).capitalize(), doc, partial(UnionForm, *get_args(kind)))
    part = kind if _is_model(kind) else _item(kind)
    listed = get_origin(kind) is list
    doc = field_docs(model).get(name, "")
    # "See ..." leads to a docstring that is nowhere in sight.
    told = summary(part) if not doc or doc.startswith("See ") else doc
    if part.__name__ == "MethodOptions":
        return Page(name, said(name).capitalize(), told, MethodsForm)
    if get_origin(kind) is dict:
        rows = [stage for stage, spec in STAGES.items() if spec.in_recipe]
        return Page(name, said(name).capitalize(), told, partial(ModelTable, part, rows))
    make = ModelList if listed else ModelForm
    return Page(name, said(name).capitalize(), told, partial(make, part))


def editor_of(model: type[BaseModel], name: str) -> Any:
    """The editor of one field of a model."""
    info = model.model_fields[name]
    kind, optional = without_none(info.annotation)
    if _is_model(kind):
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
        elif _is_model(kind):
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


def _is_group(model: type[BaseModel], name: str) -> bool:
    kind, _ = without_none(model.model_fields[name].annotation)
    return (
        _is_model(kind)
        or _is_union(kind)
        or (get_origin(kind) in (list, dict) and _is_model(_item(kind)))
    )


def _item(kind: Any) -> Any:
    """Type of the items of a list or a dictionary, without what `Annotated` adds."""
    item = get_args(kind)[-1]
    return get_args(item)[0] if get_origin(item) is Annotated else item


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _is_union(kind: Any) -> bool:
    return get_origin(kind) in (Union, UnionType) and all(map(_is_model, get_args(kind)))
