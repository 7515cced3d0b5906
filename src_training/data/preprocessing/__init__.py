"""From a raw image to a network's input, and back: the same for training and for segmenting.

There are three ways to prepare an image, distinguished by `kind`: `FundusPreprocessing`,
`IntensityPreprocessing` and `WindowPreprocessing`. `Preprocessing` is the union of them, as
recipes and model cards hold it.
"""

from collections.abc import Mapping
from typing import Annotated, Any, get_args

from pydantic import Field

from src_training.data.preprocessing.base import BasePreprocessing
from src_training.data.preprocessing.fundus import Angle, FundusPreprocessing
from src_training.data.preprocessing.scaled import (
    IntensityPreprocessing,
    ScaledPreprocessing,
    WindowPreprocessing,
)

__all__ = [
    "Angle",
    "BasePreprocessing",
    "FundusPreprocessing",
    "IntensityPreprocessing",
    "Preprocessing",
    "ScaledPreprocessing",
    "WindowPreprocessing",
    "migrate_preprocessing",
]

Preprocessing = Annotated[
    FundusPreprocessing | IntensityPreprocessing | WindowPreprocessing, Field(discriminator="kind")
]
"""How a raw image becomes a network's input; stored in every recipe and every model card."""

_FORMER_PERCENTILES = {"minmax": (0.0, 100.0), "percentile": (1.0, 99.0)}
"""Kinds of a former version that are `IntensityPreprocessing` now, and their percentiles."""

_FORMER_FIELDS = {"diameter", "angle", "channels", "window", "neighbours", "side"}
"""Fields that the one class of a former version had beside `kind`, whatever the kind."""


def migrate_preprocessing(content: Mapping[str, Any]) -> dict[str, Any]:
    """Turn preprocessing of a former version into fields of one of the present classes.

    Formerly one class had the fields of every kind, and those of other kinds had no
    effect; they are left out. The kinds ``minmax`` and ``percentile`` are ``intensity``
    now, and a missing kind was ``fundus``. Present content comes back as it is.

    Parameters
    ----------
    content
        Parsed YAML or JSON; need not be valid.

    Examples
    --------
    >>> migrate_preprocessing({"kind": "minmax", "diameter": 640, "angle": None, "channels": 3})
    {'kind': 'intensity', 'channels': 3, 'percentiles': (0.0, 100.0)}
    >>> migrate_preprocessing({"diameter": 512})
    {'kind': 'fundus', 'diameter': 512}
    """
    kind = content.get("kind", "fundus")
    migrated = {"kind": kind, **content}
    if isinstance(kind, str) and kind in _FORMER_PERCENTILES:
        migrated |= {"kind": "intensity", "percentiles": _FORMER_PERCENTILES[kind]}
    known = next(
        (
            member.model_fields.keys()
            for member in get_args(get_args(Preprocessing)[0])
            if member.model_fields["kind"].default == migrated["kind"]
        ),
        migrated.keys(),
    )
    # An angle, or neighbouring slices, of a kind that has none was an error, and still is.
    refused = {
        name for name, none in (("angle", None), ("neighbours", 1)) if migrated.get(name) != none
    }
    ignored = _FORMER_FIELDS - known - refused
    return {name: value for name, value in migrated.items() if name not in ignored}
