"""Pages of the recipe's editor, made from its models."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel
from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QFormLayout,
    QVBoxLayout,
    QWidget,
)

from napari_msankd.training.recipe_editor.field_docs import field_docs, summary
from napari_msankd.training.recipe_editor.fields import ChoiceField, without_none
from napari_msankd.training.recipe_editor.form import (
    Content,
    ModelForm,
    ModelList,
    ModelTable,
    blank,
    is_model,
    item_of,
    said,
)
from src_training.config.stages import STAGES


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
        What it is display_name, and what it is for.
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
    part = kind if is_model(kind) else item_of(kind)
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


def _is_group(model: type[BaseModel], name: str) -> bool:
    kind, _ = without_none(model.model_fields[name].annotation)
    return (
        is_model(kind)
        or _is_union(kind)
        or (get_origin(kind) in (list, dict) and is_model(item_of(kind)))
    )


def _is_union(kind: Any) -> bool:
    return get_origin(kind) in (Union, UnionType) and all(map(is_model, get_args(kind)))
