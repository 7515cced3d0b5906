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


def nifti_reader(path: str | Sequence[str]) -> Reader | None:
    """A reader of a NIfTI file; None for anything else."""
    return _reader(path, "nifti")


def folder_reader(path: str | Sequence[str]) -> Reader | None:
    """A reader of a DICOM series or an OME-Zarr image; None for any other folder.

    A bare zarr array is left to napari, which opens it.

    Raises
    ------
    InputError
        If a zarr store is broken.
    """
    from src_training.io.volumes.omezarr import is_zarr_array

    if isinstance(path, str) and is_zarr_array(Path(path)):
        return None
    return _reader(path, "dicom", "zarr2", "zarr3")


def _reader(path: str | Sequence[str], *kinds: str) -> Reader | None:
    from src_training.io.volumes.registry import volume_kind

    # A list is several files for one stack: a volume is a file or a folder by itself.
    if not isinstance(path, str) or volume_kind(Path(path)) not in kinds:
        return None
    return _read


def _read(path: str) -> list[LayerData]:
    from src_training.io.volumes.registry import open_volumes

    return [_layer(volume) for volume in open_volumes(Path(path))]


def _layer(volume: "Volume") -> LayerData:
    """An image that reads its slices as they come in sight, in millimetres."""
    pyramid = [volume.voxels, *volume.coarser]
    name = volume.path.name.removesuffix(".gz").removesuffix(".nii").removesuffix(".zarr")
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
