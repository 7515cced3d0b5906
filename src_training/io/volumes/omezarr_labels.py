"""Writing labels as OME-Zarr."""

from pathlib import Path
from typing import Any

from src_training.errors import InputError
from src_training.io.atomic import write_folder_atomic
from src_training.io.volumes.base import Volume
from src_training.io.volumes.omezarr import is_zarr
from src_training.io.volumes.slabs import slabs

_CHUNK = 512


def write_zarr_labels(volume: Volume, labels: Any, path: Path) -> None:
    """Write an OME-Zarr label image, slab by slab.

    OME-Zarr 0.5 in zarr v3; 0.4 in v2 where the source is v2. One level, so
    that napari can edit it. At ``IMAGE.zarr/labels/NAME`` it joins the labels
    of that image; anywhere else it is an image of its own.

    Parameters
    ----------
    volume, labels, path
        As `src_training.io.volumes.label_writing.write_labels_like`.

    Raises
    ------
    InputError
        If there is something at `path` that is no label image, or as there.
    """
    import zarr

    if path.exists() and "image-label" not in _attributes(path):
        raise InputError(f"{path} exists and holds no labels; expected a path that is free")
    zarr_format = 2 if volume.kind == "zarr2" else 3
    image = path.parent.parent if path.parent.name == "labels" else None
    joins = image is not None and is_zarr(image)

    def write(temporary: Path) -> None:
        group = zarr.create_group(temporary, zarr_format=zarr_format)
        group.attrs.update(_described(volume, path.name, zarr_format, joins))
        array = _array(group, volume.shape, zarr_format)
        first = 0
        for slab in slabs(labels, path):
            array[first : first + len(slab)] = slab
            first += len(slab)

    write_folder_atomic(path, write)
    if joins:
        _list_among(path, zarr_format)


def _attributes(path: Path) -> dict[str, Any]:
    import zarr

    if not is_zarr(path):
        return {}
    attributes = dict(zarr.open(store=str(path), mode="r").attrs)
    return dict(attributes.get("ome", attributes))


def _array(group: Any, shape: tuple[int, int, int], zarr_format: int) -> Any:
    chunks = (1, min(_CHUNK, shape[1]), min(_CHUNK, shape[2]))
    described: dict[str, Any] = (
        {"chunk_key_encoding": {"name": "v2", "separator": "/"}}
        if zarr_format == 2
        else {"dimension_names": ("z", "y", "x")}
    )
    return group.create_array("0", shape=shape, chunks=chunks, dtype="uint8", **described)


def _described(volume: Volume, name: str, zarr_format: int, joins: bool) -> dict[str, Any]:
    unit = {} if volume.spacing is None else {"unit": "millimeter"}
    scale = {"type": "scale", "scale": list(volume.spacing or (1.0, 1.0, 1.0))}
    scales = {
        "name": name,
        "axes": [{"name": axis, "type": "space", **unit} for axis in "zyx"],
        "datasets": [{"path": "0", "coordinateTransformations": [scale]}],
    }
    label = {"source": {"image": "../../"}} if joins else {}
    if zarr_format == 2:
        dated = {"version": "0.4"}
        return {"multiscales": [scales | dated], "image-label": label | dated}
    return {"ome": {"version": "0.5", "multiscales": [scales], "image-label": label}}


def _list_among(path: Path, zarr_format: int) -> None:
    """Name the labels in the attributes of their group."""
    import zarr

    group = zarr.open_group(path.parent, mode="a", zarr_format=zarr_format)
    attributes = dict(group.attrs)
    holder = dict(attributes.get("ome", {"version": "0.5"})) if zarr_format == 3 else attributes
    names = list(holder.get("labels", []))
    holder["labels"] = names if path.name in names else [*names, path.name]
    group.attrs.update({"ome": holder} if zarr_format == 3 else holder)
