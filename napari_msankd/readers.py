"""Readers of volumes that napari does not open itself: NIfTI, DICOM series, OME-Zarr."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.notifications import show_info

from napari_msankd.formatting import literal
from napari_msankd.masks import volume_labels
from napari_msankd.theme import label_colormap

if TYPE_CHECKING:
    from src_training.io.volumes.base import Volume

LayerData = tuple[Any, dict[str, Any], str]
Reader = Callable[[str], list[LayerData]]

VOLUME = "volume"
"""Key of a layer's metadata that holds its source `Volume`."""


def volume_reader(path: str | Sequence[str]) -> Reader | None:
    """A reader for a volume in a format of the engine; None for a path that napari reads.

    napari itself reads TIFF stacks and bare zarr arrays.

    Raises
    ------
    InputError
        If a zarr store is broken.
    """
    from src_training.io.volumes.omezarr import is_zarr_array
    from src_training.io.volumes.registry import format_of

    # A list of files is meant to become one stack, but a volume is a single file or folder.
    if not isinstance(path, str) or is_zarr_array(Path(path)):
        return None
    volume_format = format_of(Path(path))
    return None if volume_format is None or volume_format.name == "tiff" else _read


def _read(path: str) -> list[LayerData]:
    from src_training.io.volumes.registry import open_volumes

    return [volume_layer(volume) for volume in open_volumes(Path(path))]


def volume_layer(volume: "Volume", labels: bool = True) -> LayerData:
    """Layer data of a volume: a lazy image, or labels in memory; placed in mm.

    Parameters
    ----------
    volume
        The opened volume.
    labels
        Whether to detect labels; else always an image.
    """
    from src_training.io.volumes.registry import volume_name

    pyramid = [volume.voxels, *volume.coarser]
    name = volume_name(volume.path)
    attributes: dict[str, Any] = {
        "name": f"{name} {volume.name}".strip(),
        "metadata": {"source": str(volume.path), VOLUME: volume},
        "axis_labels": ("z", "y", "x"),
    }
    if volume.spacing is not None:
        attributes |= {"scale": volume.spacing, "units": ("millimeter",) * 3, **_place(volume)}
    for note in volume.notes:
        show_info(literal(f"{volume.path}: {note}."))
    if len(pyramid) > 1:
        return pyramid, attributes | {"multiscale": True}, "image"
    values = volume_labels(volume) if labels else None
    if values is None:
        return volume.voxels, attributes | {"multiscale": False}, "image"
    colors = label_colormap(int(values.max()) + 1)
    return values, attributes | {"colormap": colors}, "labels"


def _place(volume: "Volume") -> dict[str, Any]:
    """``translate`` and ``rotate``, in mm towards superior, posterior and left."""
    world = volume.world_affine
    if world is None:
        return {}
    place: dict[str, Any] = {"translate": volume.origin}
    if not volume.is_straight:
        place["rotate"] = world[:3, :3] / np.linalg.norm(world[:3, :3], axis=0)
    return place
