"""Widgets of single values: magicgui's, and text fields for numbers that they would round."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml
from magicgui.widgets import CheckBox, ComboBox, LineEdit, SpinBox, create_widget
from magicgui.widgets.bases import Widget
from pydantic.fields import FieldInfo
from qtpy.QtCore import QEvent, QObject, Qt

from napari_msankd.widgets.model_form.fields import bounds, without_none
from src_training.io.yaml_json import parse_yaml

_NUMBER_WIDTH = 130
"""Width of a spin box, pixels."""


class YamlEdit(LineEdit):
    """A value as a line of YAML: ``0.2``, ``{vessel: 255}``, ``[a, b]``; an empty line is None.

    Numbers are not rounded. Text that is not YAML becomes a string value, which the
    model's validation rejects.
    """

    def get_value(self) -> Any:
        """The parsed value."""
        text = super().get_value()
        try:
            return parse_yaml(text)
        except yaml.YAMLError:
            return text

    def set_value(self, value: Any) -> None:
        """Show a value."""
        line = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**6)
        super().set_value("" if value is None else line.removesuffix("...\n").strip())
        self.native.setCursorPosition(0)


class OptionalEdit(LineEdit):
    """An optional text: an empty line is None."""

    _empty: str | None = None

    def get_value(self) -> Any:
        """The text; None if there is none."""
        return super().get_value() or self._empty

    def set_value(self, value: Any) -> None:
        """Show a text."""
        self._empty = None if value is None else ""
        super().set_value(value or "")
        self.native.setCursorPosition(0)


def value_widget(info: FieldInfo, named: dict[str, str]) -> Widget:
    """The widget of a single field; `named` is the result of `described`."""
    kind, optional = without_none(info.annotation)
    if get_origin(kind) is Literal:
        return choice(get_args(kind), "not set" if optional else "", **named)
    if kind in (str, Path):
        return (OptionalEdit if optional else LineEdit)(**named)
    if optional or kind not in (bool, int):
        widget = YamlEdit(**named)
        if kind in (int, float):
            widget.max_width = _NUMBER_WIDTH
        return widget
    options = {"tooltip": named["tooltip"]} | (bounds(info) if kind is int else {})
    widget = create_widget(
        annotation=kind, name=named["name"], label=named["label"], options=options
    )
    if isinstance(widget, CheckBox):
        # The row already has a label.
        widget.text = ""
    if isinstance(widget, SpinBox):
        _ignore_wheel(widget)
    return widget


def choice(values: Sequence[Any], missing: str = "", **named: str) -> ComboBox:
    """A combobox of values; if `missing` is not empty, that entry means None."""
    entries = [(str(value), value) for value in values]
    widget = ComboBox(choices=entries, nullable=bool(missing), **named)
    widget.null_string = missing
    widget.reset_choices()
    _ignore_wheel(widget)
    return widget


class _Wheel(QObject):
    """Ignores wheel events of a widget without focus, so that the page scrolls."""

    def eventFilter(self, watched: Any, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Wheel and not watched.hasFocus():
            event.ignore()
            return True
        return False


def _ignore_wheel(widget: Widget) -> None:
    widget.native.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    widget.native.installEventFilter(_Wheel(widget.native))
