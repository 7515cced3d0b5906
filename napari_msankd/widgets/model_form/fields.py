"""Types, defaults, labels and descriptions of a model's fields, for its form."""

import inspect
import re
from collections.abc import Sequence
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from docstring_parser import DocstringStyle, parse
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

Values = dict[str, Any]
Model = type[BaseModel]

_UNITS = {"pixels": "px", "degrees": "°", "seconds": "s", "hu": "HU", "mm": "mm"}
_UNIT = re.compile(rf"(?:^|, )({'|'.join(_UNITS)})\b", re.IGNORECASE)
_LARGEST = 2**63 - 1


def without_none(annotation: Any) -> tuple[Any, bool]:
    """A type without ``| None``, and whether it had one."""
    if get_origin(annotation) not in (Union, UnionType):
        return annotation, False
    kinds = [_bare(kind) for kind in get_args(annotation) if kind is not NoneType]
    optional = len(kinds) < len(get_args(annotation))
    return (kinds[0] if len(kinds) == 1 else Union[tuple(kinds)]), optional  # noqa: UP007 built from a list


def is_model(kind: Any) -> bool:
    """Whether a type is a pydantic model."""
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def models_of(kind: Any) -> tuple[Any, tuple[Model, ...]]:
    """Origin (`list`, `dict` or `Union`) and models of a type; (None, ()) for other types."""
    origin = Union if get_origin(kind) is UnionType else get_origin(kind)
    items = get_args(kind) if origin is Union else get_args(kind)[-1:]
    models = tuple(map(_bare, items))
    made_of_models = origin in (list, dict, Union) and all(map(is_model, models))
    return (origin, models) if made_of_models else (None, ())


def _bare(kind: Any) -> Any:
    """A type without `Annotated`."""
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def discriminator(models: Sequence[Model]) -> str:
    """The `Literal` field that distinguishes models of a union."""
    return next(
        name
        for name in models[0].model_fields
        if all(get_origin(model.model_fields[name].annotation) is Literal for model in models)
    )


def bounds(info: FieldInfo) -> dict[str, int]:
    """``min``, ``max`` and ``step`` of an integer field."""
    limits = {
        name: getattr(constraint, name)
        for constraint in info.metadata
        for name in ("ge", "gt", "le", "lt", "multiple_of")
        if hasattr(constraint, name)
    }
    low = limits["gt"] + 1 if "gt" in limits else limits.get("ge", -_LARGEST)
    high = limits["lt"] - 1 if "lt" in limits else limits.get("le", _LARGEST)
    return {"min": low, "max": high, "step": limits.get("multiple_of", 1)}


def defaults(model: Model) -> Values:
    """Default of each field that has one, in JSON types."""
    return {
        name: to_jsonable_python(info.get_default(call_default_factory=True))
        for name, info in model.model_fields.items()
        if not info.is_required()
    }


def human(name: str) -> str:
    """A field's name as a label.

    >>> human("weight_decay")
    'Weight decay'
    """
    return name[:1].upper() + name[1:].replace("_", " ")


def described(model: Model, name: str) -> dict[str, str]:
    """Name, label and tooltip of a field's widget.

    The label is the field's title or name, with the unit from its description:
    ``Patch (px)``. The tooltip includes its name in YAML.
    """
    title, doc = model.model_fields[name].title, field_docs(model).get(name, "")
    unit = _UNIT.search(doc.partition(". ")[0])
    label = (title or human(name)) + (f" ({_UNITS[unit[1].lower()]})" if unit else "")
    return {"name": name, "label": label, "tooltip": f"{doc or summary(model)}\nIn YAML: {name}"}


@cache
def search_text(model: Model) -> str:
    """Labels, names and descriptions of all fields, lower case."""
    return "\n".join(
        text for name in model.model_fields for text in described(model, name).values()
    ).lower()


@cache
def field_docs(model: Model) -> dict[str, str]:
    """Description of each field, from ``Attributes`` of numpydoc docstrings, bases included."""
    docs = dict[str, str]()
    for base in reversed(model.__mro__):
        for field in parse(inspect.cleandoc(base.__doc__ or ""), DocstringStyle.NUMPYDOC).params:
            text = " ".join((field.description or "").split()).replace("`", "")
            docs |= dict.fromkeys(field.arg_name.split(", "), text)
    return docs


def summary(model: Model) -> str:
    """First line of a docstring."""
    return (inspect.getdoc(model) or "").partition("\n")[0].replace("`", "")
