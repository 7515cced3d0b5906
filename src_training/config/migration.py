"""Migration of recipes of former versions to the current format."""

from typing import Any

import yaml

from src_training.data.preprocessing import migrate_preprocessing
from src_training.distillation import METHODS
from src_training.errors import InputError
from src_training.networks import migrate_options

_GKD_FIELDS = (
    *("intra", "inter", "cross", "predictions", "views"),
    *("edge_loss", "scope", "temperature", "centred"),
)
_DISTILLING_FIELDS = ("methods", "weights", "start", *_GKD_FIELDS)
_ALIGNMENT_FIELDS = {"consistency": "reconstruction", "aligned": 1.0, "predicted": 1.0}
"""Removed options of the alignment, each with its current, fixed value."""
_RENAMED_GKD_FIELDS = {"centred": "centered"}
"""Former name of an option of ``gkd`` -> its current name."""
_DISTIL_FROM = {"alone": "student", "fresh": "scratch"}


def migrate_recipe(content: Any, where: str = "recipe") -> tuple[Any, list[str]]:
    """Convert a recipe of a former version to the current version.

    Parameters
    ----------
    content
        Parsed YAML; need not be valid.
    where
        Name of the recipe in errors.

    Returns
    -------
    object
        Content in the current format; `content` itself if it has no former field.
    list of str
        A sentence for each change.

    Raises
    ------
    InputError
        If a former field and its successor are both given, or a former field is invalid.

    Examples
    --------
    >>> content, changes = migrate_recipe({"preprocessing": {"kind": "minmax", "side": 64}})
    >>> content
    {'preprocessing': {'kind': 'intensity', 'side': 64, 'percentiles': (0.0, 100.0)}}
    >>> changes
    ['preprocessing of a former version is read as kind intensity']
    >>> migrate_recipe({"distilling": {"views": 2}})[0]
    {'distillation': [{'method': 'gkd', 'weight': 1.0, 'views': 2}]}
    """
    if not isinstance(content, dict):
        return content, []
    changes = list[str]()
    former = content.get("preprocessing")
    if isinstance(former, dict) and (present := migrate_preprocessing(former)) != former:
        content = content | {"preprocessing": present}
        changes.append(f"preprocessing of a former version is read as kind {present['kind']}")
    for role in ("teacher", "student"):
        if isinstance(network := content.get(role), dict):
            content = content | {role: _migrate_network(network)}
    if "start_from" in content:
        content, change = _migrate_start_from(content, where)
        changes += change
    alignment = content.get("alignment")
    if isinstance(alignment, dict) and alignment.keys() & _ALIGNMENT_FIELDS.keys():
        content = content | {"alignment": _migrate_alignment(alignment, where)}
    if "distilling" in content:
        new = _migrate_distilling(content, where)
        content = {name: value for name, value in content.items() if name != "distilling"} | new
        text = yaml.safe_dump(new, default_flow_style=True, sort_keys=False, width=10**6)
        changes.append(f"distilling of a former version is read as {text.strip()[1:-1]}")
    if isinstance(methods := content.get("distillation"), list):
        content = content | {"distillation": [_rename_gkd_fields(each, where) for each in methods]}
    return content, changes


def _rename_gkd_fields(former: Any, where: str) -> Any:
    """Rename options of ``gkd``; leave other methods as they are."""
    if not isinstance(former, dict) or former.get("method") != "gkd":
        return former
    for name, current in _RENAMED_GKD_FIELDS.items():
        if name in former and current in former:
            raise InputError(
                f"{where}: the former field distillation.gkd.{name} is given beside "
                f"distillation.gkd.{current}; expected distillation.gkd.{current} alone"
            )
    return {_RENAMED_GKD_FIELDS.get(name, name): value for name, value in former.items()}


def _migrate_network(former: dict[str, Any]) -> dict[str, Any]:
    """Drop removed options that have their current, fixed value."""
    name, options = former.get("name"), former.get("options")
    if not isinstance(name, str) or not isinstance(options, dict):
        return former
    return former | {"options": migrate_options(name, options)}


def _migrate_start_from(content: dict[str, Any], where: str) -> tuple[dict[str, Any], list[str]]:
    """Replace ``start_from`` by ``student.start_from``; also return a note if it was set."""
    start_from = content["start_from"]
    content = {name: value for name, value in content.items() if name != "start_from"}
    if start_from is None:
        return content, []
    student = content.get("student", {"name": "enet"})
    if not isinstance(student, dict):
        return content, []
    if student.get("start_from"):
        raise InputError(
            f"{where}: the former field start_from is given beside student.start_from; "
            "expected student.start_from alone"
        )
    content = content | {"student": student | {"start_from": start_from}}
    return content, ["start_from of a former version is read as student.start_from"]


def _migrate_alignment(former: dict[str, Any], where: str) -> dict[str, Any]:
    """Drop removed options, which every recipe of a former run has."""
    for field, only in _ALIGNMENT_FIELDS.items():
        if (value := former.get(field, only)) != only:
            raise InputError(
                f"{where}: the former field alignment.{field} is {value!r}; "
                f"expected {only!r}, which it always is now"
            )
    return {field: value for field, value in former.items() if field not in _ALIGNMENT_FIELDS}


def _migrate_distilling(content: dict[str, Any], where: str) -> dict[str, Any]:
    """Convert ``distilling: {methods: …, views: …}`` to ``distillation`` and ``distil_from``."""
    if both := content.keys() & {"distillation", "distil_from"}:
        raise InputError(
            f"{where}: the former field distilling is given beside {min(both)}; "
            "expected distillation and distil_from alone"
        )
    former = content["distilling"] or {}
    _refuse_other_fields(former, where)
    methods = former.get("methods", {"gkd": 1.0})
    new: dict[str, Any] = {
        "distillation": [
            {"method": method, "weight": weight, **_options(method, former)}
            for method, weight in methods.items()
        ]
    }
    if "start" in former:
        new["distil_from"] = _DISTIL_FROM.get(former["start"], former["start"])
    return new


def _options(method: str, former: dict[str, Any]) -> dict[str, Any]:
    """Options of one method from the former fields, without those of other methods."""
    if method == "gkd":
        return {name: former[name] for name in _GKD_FIELDS if name in former}
    known = METHODS[method].options.model_fields if method in METHODS else {}
    return {loss: weight for loss, weight in former.get("weights", {}).items() if loss in known}


def _refuse_other_fields(former: object, where: str) -> None:
    if not isinstance(former, dict):
        raise InputError(
            f"{where}: the field distilling is {former!r}; expected fields with values"
        )
    for field in former:
        if field not in _DISTILLING_FIELDS:
            raise InputError(
                f"{where}: the field distilling.{field} is unknown; "
                f"expected one of {', '.join(_DISTILLING_FIELDS)}"
            )
    for field in ("methods", "weights"):
        if not isinstance(former.get(field, {}), dict):
            raise InputError(
                f"{where}: the field distilling.{field} is {former[field]!r}; "
                "expected fields with values"
            )
