"""Write labels of a volume in radiology formats."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_msankd.readers import VOLUME
from src_training.errors import InputError

if TYPE_CHECKING:
    from src_training.io.volumes.base import Affine, Volume


def write_labels(path: str, data: Any, attributes: Mapping[str, Any]) -> list[str]:
    """Write a labels layer (Z, Y, X) as NIfTI, TIFF or OME-Zarr.

    Labels of a volume that was read from a file are written on the grid of that
    file (NIfTI: with its header); for others the layer's scale is the spacing.
    A TIFF of other labels (of a photograph, or above 255) is written by napari:
    which writer of a suffix napari takes is a matter of chance.

    Raises
    ------
    RuntimeError
        If labels for NIfTI or OME-Zarr are not three-dimensional or above 255, or the
        suffix is not supported. Not `InputError`: napari treats a ValueError as
        "no writer found" and drops its message.
    OSError
        If the file cannot be written; an existing file is then unchanged.
    """
    try:
        _write(Path(path), data, attributes)
    except InputError as error:
        raise RuntimeError(str(error)) from None
    return [path]


def _write(path: Path, data: Any, attributes: Mapping[str, Any]) -> None:
    from src_training.io.atomic import write_atomic
    from src_training.io.decoders.tiff import TIFF_SUFFIXES
    from src_training.io.volumes.registry import write_labels_like

    labels = data[0] if attributes.get("multiscale") else data
    if path.suffix.lower() in TIFF_SUFFIXES and (
        len(labels.shape) != 3 or (labels.dtype.itemsize > 1 and labels.max() > 255)
    ):
        from napari_builtins.io import napari_write_labels

        write_atomic(path, lambda to: napari_write_labels(str(to), labels, dict(attributes)))
        return
    if len(labels.shape) != 3:
        raise InputError(
            f"layer {attributes['name']!r} has shape {tuple(labels.shape)}; "
            "expected three axes (Z, Y, X)"
        )
    write_labels_like(_source(labels, attributes), labels, path)


def _source(labels: Any, attributes: Mapping[str, Any]) -> "Volume":
    """The volume that was segmented, or else one with the transform of the labels layer."""
    from src_training.io.volumes.base import Volume, from_lps, spacing_of

    name, world = Path(attributes["name"]), _world(attributes)
    source = attributes.get("metadata", {}).get(VOLUME)
    if isinstance(source, Volume) and source.shape == tuple(labels.shape):
        expected = source.world_affine
        if expected is None or np.allclose(expected, world, rtol=1e-5, atol=1e-4):
            return source
    if np.array_equal(world, np.eye(4)) and _in_pixels(attributes):
        return Volume(labels, None, name)
    affine = from_lps(world)
    return Volume(labels, spacing_of(affine, name), name, affine=affine)


def _world(attributes: Mapping[str, Any]) -> "Affine":
    """Affine, 4 × 4, from data coordinates to mm towards superior, posterior and left.

    Units of pixels count as mm.
    """
    from napari.utils.transforms import Affine

    inner = Affine(
        scale=attributes["scale"],
        translate=attributes["translate"],
        rotate=attributes["rotate"],
        shear=attributes["shear"],
        ndim=3,
    )
    world = np.asarray(attributes["affine"], float) @ inner.affine_matrix
    return np.diag([*_millimetres(attributes), 1.0]) @ world


def _in_pixels(attributes: Mapping[str, Any]) -> bool:
    return all(str(unit) == "pixel" for unit in attributes.get("units") or ())


def _millimetres(attributes: Mapping[str, Any]) -> list[float]:
    """Length of each axis' unit, mm; 1 for pixels."""
    import pint

    registry = pint.get_application_registry()
    units = [registry.Unit(unit) for unit in attributes.get("units") or ["pixel"] * 3]
    if _in_pixels(attributes):
        return [1.0, 1.0, 1.0]
    try:
        return [float((1 * unit).to("mm").magnitude) for unit in units]
    except pint.DimensionalityError:
        raise InputError(
            f"layer {attributes['name']!r} has units {', '.join(map(str, units))}; "
            "expected a length along each axis"
        ) from None
