"""Reading TIFF stacks with the spacing of ImageJ or OME metadata, and writing labels as such."""

import weakref
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile
from numpy.typing import NDArray

from src_training.errors import InputError
from src_training.io.atomic import write_atomic
from src_training.io.decoders.base import NARROWEST, as_input_error
from src_training.io.decoders.tiff import (
    TIFF_SUFFIXES,
    black_is_zero,
    main_series,
    series_notes,
    tiff_orientation,
)
from src_training.io.volumes.base import MILLIMETRES, Spacing, Volume, VolumeFormat
from src_training.io.volumes.lazy import StoredArray, as_dask, label_slabs, number_dtype, three_axes

# Bytes of a chunk.
_CHUNK = 2**22
# Maximum size of an ImageJ TIFF.
_IMAGEJ_BYTES = 2**32


def read_tiff(path: Path) -> list[Volume]:
    """Open a TIFF stack or an OME-TIFF.

    Returns
    -------
    list of Volume
        One volume in chunks of about 4 MB, assumed to have canonical axes, which TIFF does
        not record. The spacing is from OME or ImageJ metadata, and None unless these have
        positive numbers and a known unit for all three axes. Of several series, the
        first that is no preview is read. `Volume.notes` report metadata that was not
        understood, and further series.

    Raises
    ------
    InputError
        If the file is missing or broken, or not (Z, Y, X), but has colours, channels
        or time points.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "stack.tif"
    ...     tifffile.imwrite(path, np.zeros((5, 32, 40), np.uint16))
    ...     (volume,) = read_tiff(path)
    ...     volume.shape, volume.spacing
    ((5, 32, 40), None)
    """
    with as_input_error(path, "a TIFF stack"), tifffile.TiffFile(path) as file:
        series = main_series(file)
        axes, shape = _axes(series)
        if not _is_stack(axes):
            raise InputError(
                f"{path} has axes {axes} {shape}; expected a stack of slices (Z, Y, X)"
            )
        if (orientation := tiff_orientation(series.keyframe)) != 1:
            raise InputError(f"{path} has orientation tag {orientation}; expected 1, upright")
        dtype = number_dtype(series.dtype, path)
        spacing, notes = _spacing(file, series), series_notes(path)
        if spacing is None and (steps := _steps(file, series)):
            listed = ", ".join(f"{name} {step} {unit}".strip() for name, step, unit in steps)
            notes = (*notes, f"the spacing is unknown: {listed}")
    shape = three_axes(shape, path, leading=True)
    plane = int(np.prod(shape[1:])) * dtype.itemsize
    stored = StoredArray(path, partial(_Pages, path), shape, dtype)
    chunks = (min(shape[0], max(1, _CHUNK // plane)), *shape[1:])
    voxels = as_dask(stored, chunks)
    return [Volume(voxels, spacing, path, "tiff", notes=tuple(notes))]


def _axes(series: Any) -> tuple[str, tuple[int, ...]]:
    return series.get_axes(squeeze=True), series.get_shape(squeeze=True)


def _is_stack(axes: str) -> bool:
    """Whether axes are slices (Z), or pages of unknown meaning (I, Q), of (Y, X)."""
    return len(axes) == 3 and axes[0] in "ZIQ" and axes[1:] == "YX"


class _Pages:
    """Slices, decoded page by page; the file is opened once, as tifffile reads the tags of all."""

    def __init__(self, path: Path) -> None:
        import zarr

        file = tifffile.TiffFile(path)
        weakref.finalize(self, file.close)
        series = main_series(file)
        self._page = series.keyframe
        self._array: Any = zarr.open(store=series.aszarr(level=0), mode="r")

    def __getitem__(self, index: Any) -> NDArray[Any]:
        lead = (0,) * (self._array.ndim - 3)
        return black_is_zero(np.asarray(self._array[(*lead, *index)]), self._page)


def _spacing(file: tifffile.TiffFile, series: Any) -> Spacing | None:
    steps = [_number(step) * MILLIMETRES.get(unit, 0) for _, step, unit in _steps(file, series)]
    if len(steps) < 3 or not all(0 < step < np.inf for step in steps):
        return None
    z, y, x = steps
    return z, y, x


def _number(text: object) -> float:
    try:
        return float(str(text))
    except ValueError:
        return 0.0


def _steps(file: tifffile.TiffFile, series: Any) -> list[tuple[str, object, str]]:
    """Name, step and unit of z, y and x from OME or ImageJ metadata; empty unless all exist."""
    if file.is_ome:
        pixels = ElementTree.fromstring(file.ome_metadata or "").find(".//{*}Pixels")
        sizes = {} if pixels is None else pixels.attrib
        names = [f"PhysicalSize{axis}" for axis in "ZYX"]
        if any(name not in sizes for name in names):
            return []
        return [(name, sizes[name], sizes.get(f"{name}Unit", "µm")) for name in names]
    metadata: dict[str, Any] = file.imagej_metadata or {}
    unit = str(metadata.get("unit", "")).replace("\\u00B5", "µ")
    if "spacing" not in metadata or unit.lower() in ("", "pixel", "pixels"):
        return []
    across, down = (1 / each if each else 0 for each in series.keyframe.resolution)
    return [("spacing", metadata["spacing"], unit), ("y", down, unit), ("x", across, unit)]


def write_tiff_labels(volume: Volume, labels: Any, path: Path) -> None:
    """Write labels as zlib-compressed TIFF on canonical axes; see `write_labels_like`.

    The metadata is that of ImageJ, or of OME if the name ends in
    ``.ome.tif`` or the labels are 4 GB or more; it has no spacing if the
    volume has none.

    Raises
    ------
    InputError
        If a label is out of range, or the volume has an origin or a rotation,
        which a TIFF cannot represent.
    OSError
        If the file cannot be written; an existing file is then unchanged.
    """
    if not volume.is_straight or any(volume.origin):
        place = ", ".join(f"{each:g}" for each in volume.origin)
        turned = "" if volume.is_straight else " with turned axes"
        raise InputError(
            f"{path} cannot hold the place of {volume.path}, which begins at {place} mm (z, y, x)"
            f"{turned}; expected .nii.gz, which can"
        )
    name = path.name.lower()
    large = int(np.prod(labels.shape, dtype=np.int64)) >= _IMAGEJ_BYTES
    options = _ome(volume) if large or ".ome." in name else _imagej(volume)

    def write(temporary: Path) -> None:
        tifffile.imwrite(
            temporary,
            _slices(labels, path),
            shape=tuple(labels.shape),
            dtype=np.uint8,
            photometric="minisblack",
            compression="zlib",
            **options,
        )

    write_atomic(path, write)


def _slices(labels: Any, path: Path) -> Iterator[NDArray[np.uint8]]:
    for slab in label_slabs(labels, path):
        yield from slab


def _imagej(volume: Volume) -> dict[str, Any]:
    if volume.spacing is None:
        return {"imagej": True, "metadata": {"axes": "ZYX"}}
    z, y, x = volume.spacing
    return {
        "imagej": True,
        "resolution": (1 / x, 1 / y),
        "metadata": {"axes": "ZYX", "spacing": z, "unit": "mm"},
    }


def _ome(volume: Volume) -> dict[str, Any]:
    metadata: dict[str, Any] = {"axes": "ZYX"}
    for axis, step in zip("ZYX", volume.spacing or (), strict=False):
        metadata[f"PhysicalSize{axis}"] = step
        metadata[f"PhysicalSize{axis}Unit"] = "mm"
    return {"ome": True, "bigtiff": True, "metadata": metadata}


def _recognises(path: Path) -> bool:
    """Whether a TIFF is a stack of slices and no photograph.

    Pages of unknown meaning count as a stack, unless they are so narrow
    that the last axis must be an axis of channels.
    """
    if not path.is_file() or path.suffix.lower() not in TIFF_SUFFIXES:
        return False
    try:
        with as_input_error(path, "a TIFF stack"), tifffile.TiffFile(path) as file:
            axes, shape = _axes(main_series(file))
    except InputError:
        return False
    return _is_stack(axes) and (axes[0] == "Z" or shape[-1] >= NARROWEST)


TIFF = VolumeFormat(
    name="tiff",
    suffixes=(".ome.tiff", ".ome.tif", ".tiff", ".tif"),
    recognises=_recognises,
    read=read_tiff,
    write_labels=write_tiff_labels,
    label_suffixes=(".tif",),
)
