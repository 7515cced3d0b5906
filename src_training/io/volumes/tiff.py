"""TIFF stacks: ImageJ and OME metadata for the spacing, pages as slices."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile
from numpy.typing import NDArray

from src_training.errors import InputError
from src_training.io.volumes.base import Volume
from src_training.io.volumes.lazy import StoredArray, as_dask, number_dtype, told
from src_training.io.volumes.orientation import Spacing
from src_training.io.volumes.units import MILLIMETRES

# Bytes of a chunk: each opens the file anew.
_CHUNK = 2**22


def read_tiff(path: Path) -> Volume:
    """Open a TIFF stack or an OME-TIFF.

    Returns
    -------
    Volume
        Taken to lie on canonical axes, of which TIFF tells nothing; spacing
        from OME or ImageJ metadata, None where these tell none of all three
        axes. In chunks of about 4 MB.

    Raises
    ------
    InputError
        If the file is missing or broken, or not (Z, Y, X): colours, channels
        or times.
    """
    with told(path, "a TIFF stack"), tifffile.TiffFile(path) as file:
        series = file.series[0]
        axes = series.get_axes(squeeze=True)
        shape = series.get_shape(squeeze=True)
        if len(shape) != 3 or axes[0] not in "ZIQ" or axes[1:] != "YX":
            raise InputError(
                f"{path} has axes {axes} {shape}; expected a stack of slices (Z, Y, X)"
            )
        dtype = number_dtype(series.dtype, path)
        spacing = _spacing(file, series)
    plane = int(np.prod(shape[1:])) * dtype.itemsize
    stored = StoredArray(path, partial(_Pages, path), shape, dtype)
    chunks = (min(shape[0], max(1, _CHUNK // plane)), *shape[1:])
    return Volume(as_dask(stored, chunks), spacing, path, "tiff")


@dataclass(frozen=True)
class _Pages:
    """Slices, decoded page by page."""

    path: Path

    def __getitem__(self, index: Any) -> NDArray[Any]:
        import zarr

        with tifffile.TiffFile(self.path) as file:
            array: Any = zarr.open(store=file.series[0].aszarr(level=0), mode="r")
            lead = (0,) * (array.ndim - 3)
            return np.asarray(array[(*lead, *index)])


def _spacing(file: tifffile.TiffFile, series: Any) -> Spacing | None:
    found = _ome_spacing(file) if file.is_ome else _imagej_spacing(file, series)
    return found if found is not None and min(found) > 0 else None


def _ome_spacing(file: tifffile.TiffFile) -> Spacing | None:
    pixels = ElementTree.fromstring(file.ome_metadata or "").find(".//{*}Pixels")
    if pixels is None or any(f"PhysicalSize{axis}" not in pixels.attrib for axis in "ZYX"):
        return None
    z, y, x = (
        float(pixels.attrib[f"PhysicalSize{axis}"])
        * MILLIMETRES.get(pixels.attrib.get(f"PhysicalSize{axis}Unit", "µm"), 0)
        for axis in "ZYX"
    )
    return z, y, x


def _imagej_spacing(file: tifffile.TiffFile, series: Any) -> Spacing | None:
    told_by: dict[str, Any] = file.imagej_metadata or {}
    unit = MILLIMETRES.get(str(told_by.get("unit", "")).replace("\\u00B5", "µ"))
    across, down = series.keyframe.resolution
    if "spacing" not in told_by or unit is None or not across or not down:
        return None
    return float(told_by["spacing"]) * unit, unit / down, unit / across
