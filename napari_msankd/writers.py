"""Labels of a volume into the formats of radiology."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_msankd.readers import VOLUME
from src_training.errors import InputError

if TYPE_CHECKING:
    from src_training.io.volumes.base import Spacing, Volume


def write_labels(path: str, data: Any, attributes: Mapping[str, Any]) -> list[str]:
    """Write a labels layer (Z, Y, X) as NIfTI, TIFF or OME-Zarr.

    Labels of a volume that was read from a file go back onto the grid of that
    file, a NIfTI with its header; for others the layer's scale is the spacing.

    Raises
    ------
    RuntimeError
        If the layer is not three-dimensional, holds a label above 255, or the
        suffix is another. Not `InputError`: napari takes any ValueError of a
        writer for want of one, and the sentence would be lost.
    OSError
        If the file cannot be written; a former one stays whole.
    """
    try:
        _write(Path(path), data, attributes)
    except InputError as error:
        raise RuntimeError(str(error)) from None
    return [path]


def _write(path: Path, data: Any, attributes: Mapping[str, Any]) -> None:
    from src_training.io.volumes.registry import write_labels_like

    labels = data[0] if attributes.get("multiscale") else data
    if len(labels.shape) != 3:
        raise InputError(
            f"layer {attributes['name']!r} has shape {tuple(labels.shape)}; "
            "expected three axes (Z, Y, X)"
        )
    write_labels_like(_source(labels, attributes), labels, path)


def _source(labels: Any, attributes: Mapping[str, Any]) -> "Volume":
    from src_training.io.volumes.base import Volume

    source = attributes.get("metadata", {}).get(VOLUME)
    if isinstance(source, Volume) and source.shape == tuple(labels.shape):
        return source
    return Volume(labels, _spacing(attributes), Path(attributes["name"]))


def _spacing(attributes: Mapping[str, Any]) -> "Spacing | None":
    """In mm; a layer in pixels, where they have a size, is taken to be in mm."""
    import pint

    scale = [abs(float(step)) for step in attributes["scale"]]
    registry = pint.get_application_registry()
    units = [registry.Unit(unit) for unit in attributes.get("units") or ["pixel"] * 3]
    if all(unit == registry.pixel for unit in units):
        z, y, x = scale
        return None if scale == [1, 1, 1] else (z, y, x)
    try:
        z, y, x = (
            float((step * unit).to("mm").magnitude) for step, unit in zip(scale, units, strict=True)
        )
    except pint.DimensionalityError:
        raise InputError(
            f"layer {attributes['name']!r} has units {', '.join(map(str, units))}; "
            "expected a length along each axis"
        ) from None
    return z, y, x
