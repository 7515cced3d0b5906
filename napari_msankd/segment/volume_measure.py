"""How large what was segmented is, in millilitres."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_msankd.layers import array_of

if TYPE_CHECKING:
    from napari.layers import Labels


@dataclass(frozen=True)
class Measured:
    """A labelled volume.

    Attributes
    ----------
    labels
        Class indices (Z, Y, X).
    classes
        Their names; the first is the background.
    voxel
        Volume of a voxel, ml.
    """

    labels: Any
    classes: tuple[str, ...]
    voxel: float


def measurable(layer: "Labels", classes: tuple[str, ...]) -> Measured | None:
    """What is to be measured; None for a plane, and where the layer has no lengths."""
    data = array_of(layer)
    if layer.ndim != 3 or min(data.shape) < 2:
        return None
    origin = np.asarray(layer.data_to_world((0, 0, 0)))
    edges = np.stack([layer.data_to_world(corner) for corner in np.eye(3)]) - origin
    try:
        units = [float((1 * unit).to("cm").magnitude) for unit in layer.units]
    except TypeError:  # pint's, of a unit that is no length
        return None
    return Measured(data, classes, abs(float(np.linalg.det(edges))) * float(np.prod(units)))


def measure(what: Measured) -> Iterator[dict[str, float] | None]:
    """Millilitres of each foreground class; None after each slice, so that it can be stopped."""
    counts = np.zeros(256, np.int64)
    for plane in range(what.labels.shape[0]):
        counts += np.bincount(np.asarray(what.labels[plane]).ravel(), minlength=256)[:256]
        yield None
    yield {name: float(counts[k] * what.voxel) for k, name in enumerate(what.classes) if k}


def said(volumes: dict[str, float]) -> str:
    """Words for the widget: ``liver 1,482 ml``."""
    return " · ".join(f"{name} {_rounded(ml)} ml" for name, ml in volumes.items())


def _rounded(ml: float) -> str:
    return f"{ml:,.0f}" if ml >= 100 else f"{ml:.3g}"
