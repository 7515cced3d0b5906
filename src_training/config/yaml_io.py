"""The text of a recipe: parsed, changed field by field, and what is wrong with it in words."""

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
"""What a value should have been, by the type of pydantic's fault and its context."""

_LONGEST = 80
"""Letters of a value in a sentence."""

_METHODS = "distillation"
"""The field that is a list of methods, each of which can be set by its name."""


def parsed(text: bytes, where: str) -> dict[str, Any]:
    """The fields of a YAML file; `where` names it in the `InputError` that a fault raises."""
    try:
        content = parse_yaml(text)
    except yaml.YAMLError as error:
        raise InputError(f"{where}: the file is not YAML ({error})") from None
    if not isinstance(content, dict):
        found = type(content).__name__
        raise InputError(f"{where}: the recipe is a {found}; expected fields and their values")
    return content


def parsed_value(text: str, field: str) -> object:
    """What ``--set field=text`` sets a field to; `InputError` if it is no YAML."""
    try:
        return parse_yaml(text)
    except yaml.YAMLError as error:
        raise InputError(f"--set {field}={text:.80}: the value is not YAML ({error})") from None


def set_field(content: dict[str, Any], field: str, value: object, where: str) -> None:
    """Set a dotted field of a recipe, and make the groups that it lies in.

    ``distillation.gkd.views`` is a field of the entry of ``distillation`` whose
    method is ``gkd``; a missing entry is added. ``distillation`` set to a bare
    name, ``gkd``, leaves this method alone, with the options that it has.
    ``sources.0.angle`` is a field of the first source.

    Raises
    ------
    InputError
        If the field lies in what is no group of fields; `where` names it.
    """
    head, _, rest = field.partition(".")
    methods: Any = content.get(_METHODS)
    if head != _METHODS or not _are_methods(methods):
        _set_nested(content, field, value, f"{where} {field}")
        return
    by_name = {each["method"]: each for each in methods}
    if rest:
        _set_nested(by_name, rest, value, f"{where} {field}")
        content[_METHODS] = [
            {"method": name, **each} if isinstance(each, dict) else each
            for name, each in by_name.items()
        ]
    else:
        alone = isinstance(value, str)
        content[_METHODS] = [by_name.get(value, {"method": value})] if alone else value


def _set_nested(content: dict[str, Any], field: str, value: object, where: str) -> None:
    *parents, last = field.split(".")
    place: Any = content
    for parent in parents:
        if isinstance(place, list):
            place = place[_index(place, parent, where)]
        else:
            place = place.setdefault(parent, {})
        if not isinstance(place, dict | list):
            raise InputError(f"{where}: {parent} has no fields; expected a group of them")
    place[_index(place, last, where) if isinstance(place, list) else last] = value


def _index(listed: list[Any], part: str, where: str) -> int:
    """The index that a part of a dotted field is in a list."""
    if not part.isdigit() or int(part) >= len(listed):
        raise InputError(
            f"{where}: {part!r} is no entry of a list of {len(listed)}; expected 0, 1…"
        )
    return int(part)


def _are_methods(listed: Any) -> bool:
    return isinstance(listed, list) and all(
        isinstance(each, dict) and isinstance(each.get("method"), str) for each in listed
    )


def first_fault(error: ValidationError, model: type[BaseModel] | None = None) -> str:
    """What a person should mend first, in a sentence without its end.

    Parameters
    ----------
    error
        The faults that pydantic found.
    model
        Of what it found them: its fields are suggested where one is mistyped, if it is given.
    """
    # An unknown field first: where a name is mistyped, the right one is missing too.
    faults = sorted(error.errors(), key=lambda fault: fault["type"] not in _UNKNOWN)
    fault = faults[0]
    field = ".".join(_path(fault["loc"])) if fault["loc"] else ""
    text, found = fault["msg"].removeprefix("Value error, "), _shown(fault["input"])
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


def _shown(value: object) -> str:
    """A value as a sentence has room for it."""
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _suggestion(location: tuple[int | str, ...], model: type[BaseModel]) -> str:
    """The field that a mistyped one was meant to be, or all that may stand in its place."""
    *groups, last = (str(part) for part in location)
    models = {model}
    for group in groups:
        inside = [each.model_fields[group] for each in models if group in each.model_fields]
        if inside:
            models = set().union(*(_models_in(field.annotation) for field in inside))
        else:  # an index, a key, or the tag that chooses a member of a union
            models = {each for each in _with_subclasses(models) if _has_tag(each, group)} or models
    fields = dict.fromkeys(name for each in models for name in each.model_fields)
    if close := get_close_matches(last, fields, n=1):
        return f"did you mean {close[0]}?"
    return f"expected one of {', '.join(fields)}"


def _models_in(annotation: Any) -> set[type[BaseModel]]:
    """The models that a field's type is made of: of a list, a union, or by themselves."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    return set().union(*(_models_in(each) for each in get_args(annotation)))


def _with_subclasses(models: set[type[BaseModel]]) -> set[type[BaseModel]]:
    below = {each for model in models for each in model.__subclasses__()}
    return models | (_with_subclasses(below) if below else set())


def _has_tag(model: type[BaseModel], tag: str) -> bool:
    return any(tag in get_args(field.annotation) for field in model.model_fields.values())


def _path(location: tuple[int | str, ...]) -> list[str]:
    """The names that lead to a field, without the kind that pydantic adds to those of a union."""
    path = [str(part) for part in location]
    return path[:1] + path[2:] if path[0] in ("preprocessing", "teacher") else path


def _tag(fault: Any) -> str:
    """The field that tells the members of a union apart; pydantic quotes it."""
    return str(fault["ctx"]["discriminator"]).strip("'")
