"""Volumes that napari does not open itself: NIfTI, DICOM series, OME-Zarr; scans and labels."""

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
"""Where the metadata of a layer keep the volume it was read from."""


def volume_reader(path: str | Sequence[str]) -> Reader | None:
    """A reader of a volume in any format that the engine knows and napari does not open itself.

    TIFF stacks and bare zarr arrays are left to napari.

    Raises
    ------
    InputError
        If a zarr store is broken.
    """
    from src_training.io.volumes.omezarr import is_zarr_array
    from src_training.io.volumes.registry import format_of

    # A list is several files for one stack: a volume is a file or a folder by itself.
    if not isinstance(path, str) or is_zarr_array(Path(path)):
        return None
    found = format_of(Path(path))
    return None if found is None or found.name == "tiff" else _read


def _read(path: str) -> list[LayerData]:
    from src_training.io.volumes.registry import open_volumes

    return [volume_layer(volume) for volume in open_volumes(Path(path))]


def volume_layer(volume: "Volume", labels: bool = True) -> LayerData:
    """An image that reads its slices as they come in sight, or labels; in its place, in mm.

    Parameters
    ----------
    volume
        As it was opened.
    labels
        Whether it may be labels.
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
    """Where the first voxel lies, and how the axes are turned: mm up, back and left."""
    world = volume.world_affine
    if world is None:
        return {}
    place: dict[str, Any] = {"translate": volume.origin}
    if not volume.is_straight:
        place["rotate"] = world[:3, :3] / np.linalg.norm(world[:3, :3], axis=0)
    return place
