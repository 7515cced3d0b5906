"""Preprocessing of raw images to network inputs, shared by training and segmentation.

There are three kinds of preprocessing, distinguished by `kind`: `FundusPreprocessing`,
`IntensityPreprocessing` and `WindowPreprocessing`. Recipes and model cards contain one of
them, with their union `Preprocessing` as the type.
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
"""Preprocessing of any kind, as stored in recipes and model cards."""

_FORMER_PERCENTILES = {"minmax": (0.0, 100.0), "percentile": (1.0, 99.0)}
"""Former kinds that are `IntensityPreprocessing` now -> their percentiles."""

_FORMER_FIELDS = {"diameter", "angle", "channels", "window", "neighbours", "side"}
"""Fields of the single class of former versions, which applied to all kinds, except `kind`."""


def migrate_preprocessing(content: Mapping[str, Any]) -> dict[str, Any]:
    """Convert preprocessing of a former version to the fields of a current class.

    Formerly a single class had the fields of all kinds; fields without effect on
    the kind in use are dropped. The kinds ``minmax`` and ``percentile`` are
    ``intensity`` now, and a missing kind was ``fundus``. Current content is returned
    unchanged.

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
    # An angle, or neighbouring slices, of a kind without them was an error, so keep it as one.
    refused = {
        name for name, none in (("angle", None), ("neighbours", 1)) if migrated.get(name) != none
    }
    ignored = _FORMER_FIELDS - known - refused
    return {name: value for name, value in migrated.items() if name not in ignored}
