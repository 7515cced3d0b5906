"""Reading the ``dataset.json`` of nnU-Net and the Medical Segmentation Decathlon."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from src_training.io.yaml_json import parse_json

_IGNORED = "ignore"


@dataclass(frozen=True)
class DatasetJson:
    """Classes and channels of a data set.

    Attributes
    ----------
    class_values
        Stored values by class name, for `Domain.from_folder`; None if there are none.
    channels
        Names of channels by their four digits.
    notes
        Sentences about parts of the file that are not used.
    """

    class_values: dict[str, int | list[int]] | None = None
    channels: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_dataset_json(file: Path) -> DatasetJson:
    """Read a ``dataset.json`` of either version; errors become notes.

    Parameters
    ----------
    file
        Path of the file; the result is empty if it does not exist.
    """
    if not file.is_file():
        return DatasetJson()
    try:
        content = parse_json(file.read_text(encoding="utf-8-sig"))
        channels = content.get("channel_names", content.get("modality")) or {}
        names = {f"{int(number):04d}": str(name) for number, name in dict(channels).items()}
        classes = _class_values(content.get("labels") or {})
    except (OSError, ValueError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        return DatasetJson(notes=(f"{file.name} is not used, as it cannot be read ({reason})",))
    if classes is None:
        return DatasetJson(None, names)
    flat = [value for values in classes.values() for value in values]
    if len(flat) != len(set(flat)):
        regions = (
            f"the labels of {file.name} are not used, as they overlap (regions); "
            "classes are found in the masks"
        )
        return DatasetJson(None, names, (regions,))
    notes = []
    if ignored := classes.pop(_IGNORED, None):
        classes["background"] = [*classes.get("background", [0]), *ignored]
        notes.append(f"the label {_IGNORED!r} of {file.name} is read as background")
    plain = {name: v[0] if len(v) == 1 else v for name, v in classes.items()}
    return DatasetJson(plain, names, tuple(notes))


def _class_values(labels: Mapping[str, Any]) -> dict[str, list[int]] | None:
    """Values by class name, of ``{"1": "liver"}`` or ``{"liver": 1}``; None without classes."""
    classes = dict[str, list[int]]()
    for key, value in labels.items():
        if isinstance(value, str):
            classes.setdefault(value, []).append(int(key))
        else:
            values = value if isinstance(value, list) else [value]
            classes.setdefault(key, []).extend(int(number) for number in values)
    return classes if set(classes) - {"background", _IGNORED} else None
