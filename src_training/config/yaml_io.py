"""Parsing the YAML of a recipe, setting fields, and formatting validation errors."""

from difflib import get_close_matches
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from src_training.errors import InputError
from src_training.io.yaml_json import parse_yaml

_UNKNOWN = ("extra_forbidden", "invalid_key")
_EXPECTED = {
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "fields with values"),
    **dict.fromkeys(("list_type", "tuple_type"), "a list"),
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing", "finite_number"), "a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    "string_type": "text",
    "greater_than_equal": "at least {ge:g}",
    "greater_than": "more than {gt:g}",
    "less_than_equal": "at most {le:g}",
    "less_than": "less than {lt:g}",
    "multiple_of": "a multiple of {multiple_of}",
    "literal_error": "{expected}",
}
"""Type of a pydantic error -> description of the expected value, formatted with its context."""

_MAX_VALUE_LENGTH = 80
"""Largest number of characters of a value in an error message."""

_METHODS = "distillation"
"""Field with a list of methods, whose entries can be addressed by method name."""


def parse_fields(text: bytes, where: str) -> dict[str, Any]:
    """Parse the fields of a YAML file; `where` names the file in an `InputError`."""
    try:
        content = parse_yaml(text)
    except yaml.YAMLError as error:
        raise InputError(f"{where}: the file is not YAML ({error})") from None
    if not isinstance(content, dict):
        found = type(content).__name__
        raise InputError(f"{where}: the recipe is a {found}; expected fields and their values")
    return content


def parse_value(text: str, field: str) -> object:
    """Parse the value of ``--set field=text``; raise `InputError` if it is not YAML."""
    try:
        return parse_yaml(text)
    except yaml.YAMLError as error:
        raise InputError(f"--set {field}={text:.80}: the value is not YAML ({error})") from None


def set_field(content: dict[str, Any], field: str, value: object, where: str) -> None:
    """Set a dotted field of a recipe, and add missing parent groups.

    ``distillation.gkd.views`` is a field of the entry of ``distillation`` whose
    method is ``gkd``; a missing entry is added. Setting ``distillation`` to a
    name, such as ``gkd``, removes all other methods and keeps the options of
    this one. ``sources.0.angle`` is a field of the first source.

    Raises
    ------
    InputError
        If a parent of the field is a value without fields; `where` names the field.
    """
    head, _, rest = field.partition(".")
    methods: Any = content.get(_METHODS)
    if head != _METHODS or not _are_methods(methods):
        _set_nested(content, field, value, f"{where} {field}")
        return
    by_name = {entry["method"]: entry for entry in methods}
    if rest:
        _set_nested(by_name, rest, value, f"{where} {field}")
        content[_METHODS] = [
            {"method": name, **entry} if isinstance(entry, dict) else entry
            for name, entry in by_name.items()
        ]
    else:
        is_name = isinstance(value, str)
        content[_METHODS] = [by_name.get(value, {"method": value})] if is_name else value


def _set_nested(content: dict[str, Any], field: str, value: object, where: str) -> None:
    *parents, last = field.split(".")
    group: Any = content
    for parent in parents:
        if isinstance(group, list):
            group = group[_index(group, parent, where)]
        else:
            group = group.setdefault(parent, {})
        if not isinstance(group, dict | list):
            raise InputError(f"{where}: {parent} has no fields; expected a group of them")
    group[_index(group, last, where) if isinstance(group, list) else last] = value


def _index(entries: list[Any], part: str, where: str) -> int:
    """Parse a part of a dotted field as an index of a list."""
    if not part.isdigit() or int(part) >= len(entries):
        raise InputError(
            f"{where}: {part!r} is no entry of a list of {len(entries)}; expected 0, 1…"
        )
    return int(part)


def _are_methods(entries: Any) -> bool:
    return isinstance(entries, list) and all(
        isinstance(entry, dict) and isinstance(entry.get("method"), str) for entry in entries
    )


def first_fault(error: ValidationError, model: type[BaseModel] | None = None) -> str:
    """Format the first error to correct as a sentence without a full stop.

    Parameters
    ----------
    error
        Errors of pydantic.
    model
        Validated model; if given, the closest of its fields is suggested for an unknown field.
    """
    # Unknown fields first: with a mistyped name, pydantic also reports the right one as missing.
    # Of the forms that a field may have, the one of the right type tells more than the others.
    fault = min(
        error.errors(),
        key=lambda fault: (fault["type"] not in _UNKNOWN, fault["type"].endswith("_type")),
    )
    field = ".".join(_path(fault["loc"])) if fault["loc"] else ""
    text, found = fault["msg"].removeprefix("Value error, "), _abbreviated(fault["input"])
    if not field and fault["type"] == "value_error":
        return text
    if not field:
        return f"found {found}, expected fields with their values"
    if fault["type"] in _UNKNOWN:
        expected = _suggestion(fault["loc"], model) if model else "expected only documented fields"
        return f"the field {field} is unknown; {expected}"
    if fault["type"] == "missing":
        return f"the field {field} is missing"
    if fault["type"] == "union_tag_not_found":
        return f"the field {field}.{_tag(fault)} is missing"
    if fault["type"] == "union_tag_invalid":
        tag, expected = fault["ctx"]["tag"], fault["ctx"]["expected_tags"]
        return f"the field {field}.{_tag(fault)} is {tag!r}; expected one of {expected}"
    if fault["type"] in _EXPECTED:
        text = "expected " + _EXPECTED[fault["type"]].format(**fault.get("ctx", {}))
        return f"the field {field} is {found}; {text}"
    if isinstance(fault["input"], dict):
        return f"the field {field}: {text}"
    return f"the field {field} is {found}: {text}"


def _abbreviated(value: object) -> str:
    """Representation of a value, cut to `_MAX_VALUE_LENGTH`."""
    text = repr(value)
    return text if len(text) <= _MAX_VALUE_LENGTH else f"{text[:_MAX_VALUE_LENGTH]}…"


def _suggestion(location: tuple[int | str, ...], model: type[BaseModel]) -> str:
    """Suggest the field closest to an unknown one, or list all fields."""
    *groups, last = (str(part) for part in location)
    models = {model}
    for group in groups:
        fields_of_group = [
            candidate.model_fields[group] for candidate in models if group in candidate.model_fields
        ]
        if fields_of_group:
            models = set().union(*(_models_in(field.annotation) for field in fields_of_group))
        else:  # an index, a key, or the tag that chooses a member of a union
            models = {
                candidate for candidate in _with_subclasses(models) if _has_tag(candidate, group)
            } or models
    fields = dict.fromkeys(name for candidate in models for name in candidate.model_fields)
    if close := get_close_matches(last, fields, n=1):
        return f"did you mean {close[0]}?"
    return f"expected one of {', '.join(fields)}"


def _models_in(annotation: Any) -> set[type[BaseModel]]:
    """Models in a field's type, including members of lists and unions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    return set().union(*(_models_in(argument) for argument in get_args(annotation)))


def _with_subclasses(models: set[type[BaseModel]]) -> set[type[BaseModel]]:
    below = {subclass for model in models for subclass in model.__subclasses__()}
    return models | (_with_subclasses(below) if below else set())


def _has_tag(model: type[BaseModel], tag: str) -> bool:
    return any(tag in get_args(field.annotation) for field in model.model_fields.values())


def _path(location: tuple[int | str, ...]) -> list[str]:
    """Path of a field, without the tags that pydantic adds for the types of a union."""
    tags = "constrained-", "list[", "dict["
    path = [str(part) for part in location if not str(part).startswith(tags)]
    return path[:1] + path[2:] if path[0] in ("preprocessing", "teacher") else path


def _tag(fault: Any) -> str:
    """Name of a union's discriminator field, which pydantic puts in quotes."""
    return str(fault["ctx"]["discriminator"]).strip("'")
