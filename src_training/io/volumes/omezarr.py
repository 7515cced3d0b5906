"""Reading zarr arrays and OME-Zarr 0.1 to 0.5; writing labels as OME-Zarr label images."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_training.errors import InputError
from src_training.io.atomic import write_folder_atomic
from src_training.io.decoders.base import NARROWEST, as_input_error
from src_training.io.decoders.zarr_array import open_zarr_array
from src_training.io.volumes.base import (
    MILLIMETRES,
    Affine,
    Spacing,
    Volume,
    VolumeFormat,
    affine_at,
)
from src_training.io.volumes.lazy import (
    StoredArray,
    as_dask,
    label_slabs,
    number_dtype,
    three_axes,
)

_METADATA = (".zarray", ".zgroup", "zarr.json")
_EXPECTED = "a zarr array or an OME-Zarr image"
_CHUNK = 512


def is_zarr(folder: Path) -> bool:
    """Whether a folder is a zarr array or group, of version 2 or 3."""
    return any((folder / name).is_file() for name in _METADATA)


def is_zarr_array(folder: Path) -> bool:
    """Whether a folder is an array and not a group; InputError if its store is broken."""
    import zarr

    if not is_zarr(folder):
        return False
    with as_input_error(folder, _EXPECTED):
        return isinstance(zarr.open(store=str(folder), mode="r"), zarr.Array)


def read_zarr(path: Path) -> list[Volume]:
    """Open a zarr array, or every channel of an OME-Zarr image.

    Returns
    -------
    list of Volume
        One for each channel, assumed to have canonical axes, in the chunks
        (or shards) of the store; with coarser levels if there are any. The spacing is
        None for a plain array, and if an axis has no unit of length.

    Raises
    ------
    InputError
        If the store is broken, has no image or more than one time point, or is not
        three-dimensional.

    Examples
    --------
    >>> import tempfile, zarr
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "scan.zarr"
    ...     _ = zarr.create_array(path, data=np.zeros((5, 32, 40), np.uint16))
    ...     (volume,) = read_zarr(path)
    ...     volume.shape, volume.spacing
    ((5, 32, 40), None)
    """
    import zarr

    with as_input_error(path, _EXPECTED):
        node = zarr.open(store=str(path), mode="r")
        if isinstance(node, zarr.Array):
            voxels = _three_axes(_lazy(path, node), path)
            return [Volume(voxels, None, path, "omezarr")]
        return _image(path, node)


def _image(path: Path, group: Any) -> list[Volume]:
    attributes = dict(group.attrs)
    attributes = attributes.get("ome", attributes)
    if not attributes.get("multiscales"):
        raise InputError(f"{path} is a zarr group without multiscales; expected an OME-Zarr image")
    with _field(attributes, "multiscales"):
        scales = dict(attributes["multiscales"][0])
    with _field(scales, "datasets"):
        levels = [_lazy(path, group[each["path"]]) for each in scales["datasets"]]
    with _field(scales, "axes"):
        axes = _axes(scales, levels[0].ndim)
        names = [str(axis["name"]) for axis in axes]
        MILLIMETRES.keys() & {axis.get("unit") for axis in axes}  # raises for a list or mapping
    if names[-3:] != ["z", "y", "x"]:
        raise InputError(f"{path} has axes {', '.join(names)}; expected z, y, x as the last")
    if "t" in names and levels[0].shape[names.index("t")] > 1:
        times = levels[0].shape[names.index("t")]
        raise InputError(f"{path} has {times} times; expected a single one")
    with _field(scales, "coordinateTransformations"):
        spacing, affine = _place(scales, axes)
    count = levels[0].shape[names.index("c")] if "c" in names else 1
    with _field(attributes, "omero"):
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
                "omezarr",
                affine=affine,
                coarser=tuple(coarser),
                name=labels[channel],
            )
        )
    return volumes


@contextmanager
def _field(holder: Mapping[str, Any], name: str) -> Iterator[None]:
    """Convert exceptions from reading a metadata field to a ValueError with the field's name."""
    try:
        yield
    except (InputError, ValueError):
        raise
    except Exception as error:  # JSON may contain any type in any field
        raise ValueError(f"its {name} is {str(holder.get(name))[:80]}") from error


def _axes(scales: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    """Axes in the form of 0.4; 0.3 has only names, and 0.1 and 0.2 have fixed axes."""
    axes = scales.get("axes") or list("tczyx")[-count:]
    return [{"name": axis} if isinstance(axis, str) else dict(axis) for axis in axes]


def _lazy(path: Path, array: Any) -> Any:
    dtype = number_dtype(array.dtype, path)
    opened = partial(open_zarr_array, path, array.path)
    chunks = getattr(array, "shards", None) or array.chunks
    return as_dask(StoredArray(path, opened, array.shape, dtype), chunks)


def _three_axes(voxels: Any, path: Path) -> Any:
    three_axes(voxels.shape, path, leading=True)
    return voxels[(0,) * (voxels.ndim - 3)]


def _steps(scales: Mapping[str, Any], axes: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Scale and translation of the finest level along all axes, including those of the image."""
    scale, translation = np.ones(axes), np.zeros(axes)
    for holder in (scales["datasets"][0], scales):
        for transformation in holder.get("coordinateTransformations") or ():
            if transformation["type"] == "scale":
                factor = _numbers(transformation, "scale", axes)
                scale, translation = scale * factor, translation * factor
            elif transformation["type"] == "translation":
                translation = translation + _numbers(transformation, "translation", axes)
    return scale, translation


def _numbers(transformation: Mapping[str, Any], name: str, axes: int) -> NDArray[Any]:
    """The numbers of a transformation; ValueError unless there is one for each axis."""
    value = transformation[name]
    valid = isinstance(value, list) and all(isinstance(each, int | float) for each in value)
    numbers = np.asarray(value if valid else [], float)
    if numbers.shape != (axes,) or not np.isfinite(numbers).all():
        raise ValueError(f"its {name} is {value}, not {axes} finite numbers")
    if name == "scale" and numbers.min() <= 0:
        raise ValueError(f"its scale is {value}, not {axes} numbers above 0")
    return numbers


def _place(
    scales: Mapping[str, Any], axes: list[dict[str, Any]]
) -> tuple[Spacing | None, Affine | None]:
    """Spacing and affine of the finest level; None if an axis has no unit of length."""
    scale, translation = (each[-3:] for each in _steps(scales, len(axes)))
    units = np.array([MILLIMETRES.get(axis.get("unit") or "", 0.0) for axis in axes[-3:]])
    z, y, x = (float(step) for step in scale * units)
    if min(z, y, x) <= 0:
        return None, None
    up, back, left = (float(start) for start in translation * units)
    return (z, y, x), affine_at((z, y, x), (up, back, left))


def _channel_names(attributes: Mapping[str, Any], count: int) -> list[str]:
    channels = (attributes.get("omero") or {}).get("channels", [])
    names = [str(each.get("label", "")) for each in channels][:count]
    return names + [""] * (count - len(names))


def write_zarr_labels(volume: Volume, labels: Any, path: Path) -> None:
    """Write an OME-Zarr label image, slab by slab; see `write_labels_like`.

    It is OME-Zarr 0.5 in zarr v3, or 0.4 in v2 if the source is v2, with a single level, so
    that napari can edit it. At ``IMAGE.zarr/labels/NAME`` it is added to the labels
    of that image; at other paths it is an independent image.

    Raises
    ------
    InputError
        If a label is out of range, `path` exists and is no label image, or the volume is
        rotated, which OME-Zarr cannot represent.
    OSError
        If the folder cannot be written; an existing one is then unchanged.
    """
    import zarr

    if not volume.is_straight:
        raise InputError(
            f"{path} cannot hold the place of {volume.path}, whose axes are turned; "
            "expected .nii.gz, which can"
        )
    if path.exists() and "image-label" not in _attributes(path):
        raise InputError(f"{path} exists and holds no labels; expected a free path")
    zarr_format = 2 if _is_version_2(volume) else 3
    image = path.parent.parent if path.parent.name == "labels" else None
    joins = image is not None and is_zarr(image)

    def write(temporary: Path) -> None:
        group = zarr.create_group(temporary, zarr_format=zarr_format)
        group.attrs.update(_metadata(volume, path.name, zarr_format, joins))
        array = _array(group, volume.shape, zarr_format)
        first = 0
        for slab in label_slabs(labels, path):
            array[first : first + len(slab)] = slab
            first += len(slab)

    write_folder_atomic(path, write)
    if joins:
        _add_to_group(path, zarr_format)


def _attributes(path: Path) -> dict[str, Any]:
    import zarr

    if not is_zarr(path):
        return {}
    attributes = dict(zarr.open(store=str(path), mode="r").attrs)
    return dict(attributes.get("ome", attributes))


def _array(group: Any, shape: tuple[int, int, int], zarr_format: int) -> Any:
    chunks = (1, min(_CHUNK, shape[1]), min(_CHUNK, shape[2]))
    options: dict[str, Any] = (
        {"chunk_key_encoding": {"name": "v2", "separator": "/"}}
        if zarr_format == 2
        else {"dimension_names": ("z", "y", "x")}
    )
    return group.create_array("0", shape=shape, chunks=chunks, dtype="uint8", **options)


def _metadata(volume: Volume, name: str, zarr_format: int, joins: bool) -> dict[str, Any]:
    axes, scale, translation = _grid_of(volume)
    transformations: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
    if any(translation):
        transformations.append({"type": "translation", "translation": translation})
    scales = {
        "name": name,
        "axes": axes,
        "datasets": [{"path": "0", "coordinateTransformations": transformations}],
    }
    label = {"source": {"image": "../../"}} if joins else {}
    if zarr_format == 2:
        version = {"version": "0.4"}
        return {"multiscales": [scales | version], "image-label": label | version}
    return {"ome": {"version": "0.5", "multiscales": [scales], "image-label": label}}


def _grid_of(volume: Volume) -> tuple[list[dict[str, Any]], list[float], list[float]]:
    """Axes, scale and translation of labels, in the units of an OME-Zarr source, else in mm."""
    attributes = _attributes(volume.path) if volume.format == "omezarr" else {}
    if attributes.get("multiscales"):
        scales = attributes["multiscales"][0]
        axes = _axes(scales, 5)
        scale, translation = (each[-3:].tolist() for each in _steps(scales, len(axes)))
        return [{"type": "space", **axis} for axis in axes[-3:]], scale, translation
    unit = {} if volume.spacing is None else {"unit": "millimeter"}
    axes = [{"name": axis, "type": "space", **unit} for axis in "zyx"]
    return axes, list(volume.spacing or (1.0, 1.0, 1.0)), list(volume.origin)


def _add_to_group(path: Path, zarr_format: int) -> None:
    """Add the name of the labels to the attributes of their group."""
    import zarr

    group = zarr.open_group(path.parent, mode="a", zarr_format=zarr_format)
    attributes = dict(group.attrs)
    holder = dict(attributes.get("ome", {"version": "0.5"})) if zarr_format == 3 else attributes
    names = list(holder.get("labels", []))
    holder["labels"] = names if path.name in names else [*names, path.name]
    group.attrs.update({"ome": holder} if zarr_format == 3 else holder)


def _is_version_2(volume: Volume) -> bool:
    if volume.format != "omezarr":
        return False
    return not (volume.path / "zarr.json").is_file()


def _recognises(path: Path) -> bool:
    """Whether a folder is a zarr group, or an array that is a stack and no photograph."""
    if not is_zarr(path):
        return False
    try:
        with as_input_error(path, _EXPECTED):
            array = open_zarr_array(path)
    except InputError:  # a group, or broken, which `read_zarr` reports
        return True
    return bool(array.ndim == 3 and array.shape[-1] >= NARROWEST)


OME_ZARR = VolumeFormat(
    name="omezarr",
    suffixes=(".ome.zarr", ".zarr"),
    recognises=_recognises,
    read=read_zarr,
    write_labels=write_zarr_labels,
    label_suffixes=(".zarr",),
    takes_labels=lambda path: path.parent.name == "labels",
)
