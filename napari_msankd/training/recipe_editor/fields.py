"""Editors of single values: one for each type that a field of a recipe can have."""

from collections.abc import Sequence
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from pydantic.fields import FieldInfo
from qtpy.QtCore import QEvent, QObject, Qt, Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QLineEdit, QSpinBox

LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Five times as fast as the other, where there is one."""

_WIDEST = 2**31 - 1


class TextField(QLineEdit):
    """A text.

    Parameters
    ----------
    optional
        Whether it may be missing: an empty one is None then.
    """

    changed = Signal()

    def __init__(self, optional: bool = False) -> None:
        super().__init__()
        self._optional = optional
        self.textEdited.connect(self.changed)

    @property
    def value(self) -> Any:
        """What is written."""
        return self._read(self.text())

    @value.setter
    def value(self, value: Any) -> None:
        self.setText("" if value is None else self._shown(value))
        self.setCursorPosition(0)

    def _read(self, text: str) -> Any:
        return None if self._optional and not text else text

    def _shown(self, value: Any) -> str:
        return str(value)


class NumberField(TextField):
    """A number with a fraction; ``1e-3`` is one."""

    def _read(self, text: str) -> Any:
        try:
            return float(text)
        except ValueError:
            # The recipe itself says what is wrong with it.
            return super()._read(text)

    def _shown(self, value: Any) -> str:
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)


class YamlField(TextField):
    """Anything else, in a line of YAML: ``{vessel: 255}``, ``[a, b]``, ``0.2``.

    What is no YAML is its value as a text: the recipe says what is wrong with it.
    """

    def _read(self, text: str) -> Any:
        try:
            return yaml.load(text, LOADER)
        except yaml.YAMLError:
            return text

    def _shown(self, value: Any) -> str:
        line = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**6)
        return line.removesuffix("...\n").strip()


class CountField(QSpinBox):
    """A whole number.

    Parameters
    ----------
    low, high
        Its bounds, both included.
    step
        By which arrows and keys change it; any other number may be typed.
    """

    changed = Signal()

    def __init__(self, low: int = -_WIDEST, high: int = _WIDEST, step: int = 1) -> None:
        super().__init__()
        self.setRange(low, high)
        self.setSingleStep(step)
        _leave_the_wheel(self)
        self.valueChanged.connect(self.changed)

    @property
    def value(self) -> int:
        """The number."""
        return super().value()

    @value.setter
    def value(self, value: int) -> None:
        self.setValue(value)


class SwitchField(QCheckBox):
    """Yes or no."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.toggled.connect(self.changed)

    @property
    def value(self) -> bool:
        """Whether it is on."""
        return self.isChecked()

    @value.setter
    def value(self, value: bool) -> None:
        self.setChecked(value)


class ChoiceField(QComboBox):
    """One of a few values.

    Parameters
    ----------
    choices
        Each is shown as its text; None as ``none``.
    """

    changed = Signal()

    def __init__(self, choices: Sequence[Any]) -> None:
        super().__init__()
        for choice in choices:
            self.addItem("none" if choice is None else str(choice), choice)
        _leave_the_wheel(self)
        self.currentIndexChanged.connect(self.changed)

    @property
    def value(self) -> Any:
        """The chosen one."""
        return self.currentData()

    @value.setter
    def value(self, value: Any) -> None:
        self.setCurrentIndex(self.findText("none" if value is None else str(value)))


Field = TextField | CountField | SwitchField | ChoiceField


def field_for(info: FieldInfo) -> Field:
    """The editor of a field that is no group of fields."""
    kind, optional = without_none(info.annotation)
    if get_origin(kind) is Literal:
        return ChoiceField([None, *get_args(kind)] if optional else get_args(kind))
    if kind is bool and not optional:
        return SwitchField()
    if kind is int and not optional:
        return CountField(*_bounds(info))
    if kind is float and not optional:
        return NumberField()
    return TextField(optional) if kind is str else YamlField()


def without_none(annotation: Any) -> tuple[Any, bool]:
    """A type without ``| None``, and whether it had one."""
    if get_origin(annotation) not in (Union, UnionType):
        return annotation, False
    kinds = [kind for kind in get_args(annotation) if kind is not NoneType]
    optional = len(kinds) < len(get_args(annotation))
    return (kinds[0] if len(kinds) == 1 else Union[tuple(kinds)]), optional  # noqa: UP007 built from a list


def _bounds(info: FieldInfo) -> tuple[int, int, int]:
    """Lowest, highest and step of a whole number."""

    def bound(name: str) -> Any:
        return next((getattr(m, name) for m in info.metadata if hasattr(m, name)), None)

    low, high = bound("ge"), bound("le")
    low = bound("gt") + 1 if bound("gt") is not None else low
    high = bound("lt") - 1 if bound("lt") is not None else high
    step = bound("multiple_of") or 1
    return -_WIDEST if low is None else low, _WIDEST if high is None else high, step


class _Wheel(QObject):
    """Lets the wheel scroll the page, unless the editor under it has the focus."""

    def eventFilter(self, watched: Any, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Wheel and not watched.hasFocus():
            event.ignore()
            return True
        return False


def _leave_the_wheel(editor: QSpinBox | QComboBox) -> None:
    editor.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    editor.installEventFilter(_Wheel(editor))
