"""Forms of pydantic models, generated from their types.

The value of a form has the structure of `pydantic.BaseModel.model_dump` in JSON mode.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import chain, pairwise
from typing import Any, Union

from magicgui.widgets import CheckBox, Container, Label, PushButton
from magicgui.widgets.bases import Widget
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFormLayout, QGroupBox, QLabel, QVBoxLayout, QWidget

from napari_msankd.widgets.model_form.fields import (
    Model,
    Values,
    defaults,
    described,
    discriminator,
    human,
    is_model,
    models_of,
    search_text,
    summary,
    without_none,
)
from napari_msankd.widgets.model_form.value_widgets import choice, value_widget

Editors = Mapping[tuple[Model, str], Callable[..., Widget]]
"""Custom widgets: (model or base, field) -> factory, called with name, label and tooltip."""


class Group(Container[Widget]):
    """Widgets that form one value."""

    def __init__(self, widgets: Sequence[Widget], **named: Any) -> None:
        super().__init__(widgets=widgets, labels=False, **named)
        self.margins = (0, 0, 0, 0)

    def show_row(self, row: int, shown: bool) -> None:
        """Show or hide a row; does nothing in a group without rows."""


class ModelForm(Group):
    """A row for each field of a model; groups of fields in boxes.

    Parameters
    ----------
    model
        The model.
    fields
        Names of the fields to show; all by default.
    editors
        Custom widgets for fields of this model or of nested ones.
    **named
        Name, label and tooltip of the form itself.
    """

    def __init__(
        self,
        model: Model,
        fields: Sequence[str] | None = None,
        editors: Editors | None = None,
        **named: Any,
    ) -> None:
        names = list(model.model_fields) if fields is None else fields
        super().__init__([field_widget(model, name, editors or {}) for name in names], **named)
        # The container provides names, values and signals; Qt lays out the labels.
        self._rows = QFormLayout()
        self._rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        self.native.layout().addLayout(self._rows)
        for widget in self:
            self._add_row(widget)
        set_tab_order(self)
        self.value = {name: value for name, value in defaults(model).items() if name in names}

    @property
    def value(self) -> Values:
        """Field name -> value."""
        return {widget.name: widget.value for widget in self}

    @value.setter
    def value(self, values: Values) -> None:
        for widget in self:
            if widget.name in values:
                widget.value = values[widget.name]

    def show_row(self, row: int, shown: bool) -> None:
        """Show or hide a field and its label."""
        self._rows.setRowVisible(row, shown)

    def _add_row(self, widget: Widget) -> None:
        if isinstance(widget, OptionalForm):
            self._rows.addRow(widget.native)
            return
        if isinstance(widget, Container):
            box = QGroupBox(widget.label)
            box.setToolTip(widget.tooltip)
            QVBoxLayout(box).addWidget(widget.native)
            self._rows.addRow(box)
            return
        label = QLabel(widget.label)
        label.setToolTip(widget.tooltip)
        label.setBuddy(widget.native)
        self._rows.addRow(label, widget.native)


class OptionalForm(Group):
    """A checkbox, and the form of a model that is shown while it is checked.

    Parameters
    ----------
    model, fields, editors
        As in `ModelForm`.
    **named
        Name, label and tooltip; the checkbox has the label.
    """

    def __init__(
        self,
        model: Model,
        fields: Sequence[str] | None = None,
        editors: Editors | None = None,
        **named: Any,
    ) -> None:
        tick = CheckBox(text=named["label"], tooltip=named["tooltip"])
        super().__init__([tick], **named)
        self.tick = tick
        self._form: ModelForm | None = None
        self.model, self._arguments = model, (model, fields, editors)
        self.tick.changed.connect(self._on_tick)

    @property
    def form(self) -> ModelForm:
        """The form of the model, created on first use."""
        if self._form is None:
            self._form = ModelForm(*self._arguments)
            self._form.margins = (24, 0, 0, 6)
            self.append(self._form)
            set_tab_order(self)
            self._on_tick()
        return self._form

    @property
    def value(self) -> Values | None:
        """Value of the form; None if unchecked."""
        return self.form.value if self.tick.value else None

    @value.setter
    def value(self, values: Values | None) -> None:
        self.tick.value = values is not None
        if values is not None:
            self.form.value = values

    def _on_tick(self) -> None:
        self.form.visible = self.tick.value


class UnionForm(Group):
    """A choice among the models of a discriminated union, and the form of the chosen one.

    Fields that two models share keep their values when the choice changes.
    """

    def __init__(self, models: Sequence[Model], editors: Editors, **named: Any) -> None:
        key = discriminator(models)
        members = {model.model_fields[key].default: model for model in models}
        doc = "\n".join(f"{name}: {summary(model)}" for name, model in members.items())
        kind = choice(list(members), name="", label=human(key), tooltip=doc)
        forms = {
            name: ModelForm(model, [field for field in model.model_fields if field != key], editors)
            for name, model in members.items()
        }
        super().__init__([kind, *forms.values()], **named)
        self.kind, self.forms, self._key = kind, forms, key
        self._show()
        self.kind.changed.connect(self._on_kind)

    @property
    def form(self) -> ModelForm:
        """Form of the chosen model."""
        return self.forms[self.kind.value]

    @property
    def value(self) -> Values:
        """Value of the chosen model, with the discriminator."""
        return {self._key: self.kind.value, **self.form.value}

    @value.setter
    def value(self, values: Values) -> None:
        self.kind.value = values[self._key]
        self.form.value = values

    def _on_kind(self) -> None:
        self.form.value = self.forms[self._shown].value
        self._show()

    def _show(self) -> None:
        self._shown = self.kind.value
        for kind, form in self.forms.items():
            form.visible = kind == self._shown


class ModelList(Group):
    """A list of models of one type, with buttons to add and remove items."""

    def __init__(self, model: Model, editors: Editors, **named: Any) -> None:
        add = PushButton(text="Add", tooltip=f"Add one: {summary(model)}")
        super().__init__([add], **named)
        self.native.layout().setAlignment(add.native, Qt.AlignmentFlag.AlignLeft)
        self.add, self.forms = add, list[ModelForm]()
        self._model, self._editors = model, editors
        self.add.changed.connect(self._append)

    @property
    def value(self) -> list[Values]:
        """Values of the models."""
        return [form.value for form in self.forms]

    @value.setter
    def value(self, values: list[Values]) -> None:
        while len(self.forms) > len(values):
            self.remove_form(self.forms[-1])
        while len(self.forms) < len(values):
            self._append()
        for form, content in zip(self.forms, values, strict=True):
            form.value = content

    def remove_form(self, form: ModelForm) -> None:
        """Remove one of the models."""
        index = self.forms.index(form)
        del self.forms[index]
        self.pop(index).native.deleteLater()
        self.changed.emit(self)

    def _append(self) -> None:
        form = ModelForm(self._model, editors=self._editors)
        remove = PushButton(text="Remove", tooltip="Remove this one from the list")
        item = Container[Widget](widgets=[remove, form], labels=False)
        item.native.layout().setAlignment(remove.native, Qt.AlignmentFlag.AlignRight)
        remove.changed.connect(lambda: self.remove_form(form))
        self.forms.append(form)
        self.insert(len(self.forms) - 1, item)
        set_tab_order(self.add, item, self.add)
        self.changed.emit(self)


class ModelTable(Group):
    """A table of named models of one type, a row each, such as schedules of stages.

    Parameters
    ----------
    model
        Type of the models.
    titles
        Name of a row -> its label; by default made from the name.
    **named
        Name, label and tooltip of the table itself.
    """

    def __init__(self, model: Model, titles: Mapping[str, str] | None = None, **named: Any) -> None:
        super().__init__([], **named)
        self._model, self._titles = model, titles or {}

    @property
    def value(self) -> dict[str, Values]:
        """Row -> field -> value."""
        return {row.name: {cell.name: cell.value for cell in row[1:]} for row in self[1:]}

    @value.setter
    def value(self, values: dict[str, Values]) -> None:
        if [row.name for row in self[1:]] != list(values):
            self.clear()
            self.extend([self._header(), *map(self._row, values)])
        for name, content in values.items():
            for field, value in content.items():
                self[name][field].value = value

    def _header(self) -> Container[Widget]:
        columns = [described(self._model, field) for field in self._model.model_fields]
        titles = [Label(value=column["label"], tooltip=column["tooltip"]) for column in columns]
        return _table_row([Label(value=""), *titles], "")

    def _row(self, name: str) -> Container[Widget]:
        cells = [field_widget(self._model, field, {}) for field in self._model.model_fields]
        title = self._titles.get(name, human(name))
        for cell in cells:
            cell.native.setAccessibleName(f"{title}: {cell.label}")
        return _table_row([Label(value=title, label=title), *cells], name)


def _table_row(cells: Sequence[Widget], name: str) -> Container[Widget]:
    row = Container[Widget](widgets=cells, layout="horizontal", labels=False, name=name)
    row.margins = (0, 0, 0, 0)
    cells[0].min_width = cells[0].max_width = 110
    for column, cell in enumerate(cells[1:], 1):
        # Give all columns the same width.
        row.native.layout().setStretch(column, 1)
        policy = cell.native.sizePolicy()
        policy.setHorizontalPolicy(policy.Policy.Ignored)
        cell.native.setSizePolicy(policy)
    return row


def field_widget(model: Model, name: str, editors: Editors) -> Widget:
    """The widget of one field of a model."""
    named, info = described(model, name), model.model_fields[name]
    for base in model.__mro__:
        if (base, name) in editors:
            return editors[base, name](**named)
    kind, optional = without_none(info.annotation)
    if is_model(kind) and optional:
        return OptionalForm(kind, editors=editors, **named)
    if is_model(kind):
        return ModelForm(kind, editors=editors, **named)
    match models_of(kind):
        case origin, models if origin is Union and not optional:
            return UnionForm(models, editors, **named)
        case origin, [model] if origin is list and not optional:
            return ModelList(model, editors, **named)
        case origin, [model] if origin is dict and not optional:
            return ModelTable(model, **named)
    return value_widget(info, named)


def filter_rows(widget: Widget, text: str) -> bool:
    """Show only rows whose label, name or tooltip contains a text; return whether any does.

    A group that itself matches is shown completely. `text` is lower case.
    """
    matches = text in f"{widget.label} {widget.name} {widget.tooltip}".lower()
    if not isinstance(widget, Container):
        return matches
    row_matches = [filter_rows(child, "" if matches else text) for child in widget]
    if isinstance(widget, Group):
        for row, match in enumerate(row_matches):
            widget.show_row(row, match)
    # An unchecked optional form may not exist yet, so search its model instead.
    unset = isinstance(widget, OptionalForm) and text in search_text(widget.model)
    return matches or any(row_matches) or unset


def set_tab_order(*widgets: Any) -> None:
    """Set the Tab order of widgets, of magicgui or Qt.

    By default widgets that are added later come last.
    """
    for before, after in pairwise(chain.from_iterable(map(_controls, widgets))):
        QWidget.setTabOrder(before, after)


def _controls(widget: Any) -> list[QWidget]:
    """Widgets in a container, or a single one, that accept Tab focus; Qt needs only those."""
    if isinstance(widget, Container):
        return [control for child in widget for control in _controls(child)]
    native = getattr(widget, "native", widget)
    return [native] if native.focusPolicy() & Qt.FocusPolicy.TabFocus else []
