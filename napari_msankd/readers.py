"""Volumes that napari does not open itself: NIfTI, DICOM series, OME-Zarr."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

    return [_layer(volume) for volume in open_volumes(Path(path))]


def _layer(volume: "Volume") -> LayerData:
    """An image that reads its slices as they come in sight, in millimetres."""
    from src_training.io.volumes.registry import volume_name

    pyramid = [volume.voxels, *volume.coarser]
    name = volume_name(volume.path)
    place: dict[str, Any] = {"axis_labels": ("z", "y", "x")}
    if volume.spacing is not None:
        place |= {"scale": volume.spacing, "units": ("millimeter",) * 3}
    described = {
        "name": f"{name} {volume.name}".strip(),
        "metadata": {"source": str(volume.path), VOLUME: volume},
        "multiscale": len(pyramid) > 1,
        **place,
    }
    return (pyramid if len(pyramid) > 1 else pyramid[0]), described, "image"
