"""zarr arrays and OME-Zarr multiscales, 0.4 and 0.5, read by their attributes."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from src_training.errors import InputError
from src_training.io.volumes.base import Kind, Volume
from src_training.io.volumes.blosc import WholeChunks, packs_with_blosc
from src_training.io.volumes.lazy import StoredArray, as_dask, number_dtype, told
from src_training.io.volumes.orientation import Spacing
from src_training.io.volumes.units import MILLIMETRES

_MARKS = (".zarray", ".zgroup", "zarr.json")


def is_zarr(folder: Path) -> bool:
    """Whether a folder is a zarr array or group, of version 2 or 3."""
    return any((folder / mark).is_file() for mark in _MARKS)


def is_zarr_array(folder: Path) -> bool:
    """Whether a folder is a bare array, and no group; InputError if its store is broken."""
    import zarr

    if not is_zarr(folder):
        return False
    with told(folder, "a zarr array or an OME-Zarr image"):
        return isinstance(zarr.open(store=str(folder), mode="r"), zarr.Array)


def read_zarr(path: Path) -> list[Volume]:
    """Open a zarr array, or every channel of an OME-Zarr image.

    Returns
    -------
    list of Volume
        One for each channel, taken to lie on canonical axes, in the chunks
        (or shards) of the store; with coarser levels where there are. Spacing
        None for a bare array, and where an axis has no unit of length.

    Raises
    ------
    InputError
        If the store is broken, has no image, more than one time, or is not
        three-dimensional.
    """
    import zarr

    with told(path, "a zarr array or an OME-Zarr image"):
        node = zarr.open(store=str(path), mode="r")
        if isinstance(node, zarr.Array):
            voxels = _three_axes(_lazy(path, node), path)
            return [Volume(voxels, None, path, _kind(node))]
        return _image(path, node)


def _image(path: Path, group: Any) -> list[Volume]:
    attributes = dict(group.attrs)
    attributes = attributes.get("ome", attributes)
    if not attributes.get("multiscales"):
        raise InputError(f"{path} is a zarr group without multiscales; expected an OME-Zarr image")
    scales = attributes["multiscales"][0]
    axes = scales["axes"]
    names = [axis["name"] for axis in axes]
    if names[-3:] != ["z", "y", "x"]:
        raise InputError(f"{path} has axes {', '.join(names)}; expected z, y, x as the last")
    levels = [_lazy(path, group[each["path"]]) for each in scales["datasets"]]
    if "t" in names and levels[0].shape[names.index("t")] > 1:
        times = levels[0].shape[names.index("t")]
        raise InputError(f"{path} has {times} times; expected a single one")
    spacing = _spacing(scales, axes)
    kind = _kind(group)
    count = levels[0].shape[names.index("c")] if "c" in names else 1
    labels = _channel_names(attributes, count)
    volumes = []
    for channel in range(count):
        index = tuple(channel if name == "c" else 0 for name in names[:-3])
        first, *coarser = (level[index] for level in levels)
        volumes.append(
            Volume(
                _three_axes(first, path),
                spacing,
                path,
                kind,
                coarser=tuple(coarser),
                name=labels[channel],
            )
        )
    return volumes


def _lazy(path: Path, array: Any) -> Any:
    dtype = number_dtype(array.dtype, path)
    opened = partial(_open_array, path, array.path)
    chunks = getattr(array, "shards", None) or array.chunks
    return as_dask(StoredArray(path, opened, array.shape, dtype), chunks)


def _open_array(path: Path, within: str) -> Any:
    import zarr

    array = zarr.open_array(store=str(path), path=within, mode="r")
    return WholeChunks(path, array) if packs_with_blosc(array) else array


def _kind(node: Any) -> Kind:
    return "zarr2" if node.metadata.zarr_format == 2 else "zarr3"


def _three_axes(voxels: Any, path: Path) -> Any:
    lead = voxels.shape[:-3]
    if voxels.ndim < 3 or any(size != 1 for size in lead):
        raise InputError(
            f"{path} has {voxels.ndim} axes, {' x '.join(map(str, voxels.shape))}; "
            "expected the three of one volume"
        )
    if 0 in voxels.shape:
        raise InputError(f"{path} has shape {voxels.shape}, no voxels; expected at least one")
    return voxels[(0,) * len(lead)]


def _spacing(scales: Mapping[str, Any], axes: list[Mapping[str, Any]]) -> Spacing | None:
    """(z, y, x) in mm of the finest level: its own scale times that of the whole."""
    scale = np.ones(len(axes))
    for holder in (scales["datasets"][0], scales):
        for transformation in holder.get("coordinateTransformations", ()):
            if transformation["type"] == "scale":
                scale *= np.asarray(transformation["scale"], float)
    units = [MILLIMETRES.get(axis.get("unit", ""), 0.0) for axis in axes[-3:]]
    z, y, x = (float(step) * unit for step, unit in zip(scale[-3:], units, strict=True))
    return (z, y, x) if min(z, y, x) > 0 else None


def _channel_names(attributes: Mapping[str, Any], count: int) -> list[str]:
    told_by = attributes.get("omero", {}).get("channels", [])
    names = [str(each.get("label", "")) for each in told_by][:count]
    return names + [""] * (count - len(names))
