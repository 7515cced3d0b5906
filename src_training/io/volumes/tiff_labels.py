"""Writing labels as TIFF, with resolution and spacing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from src_training.io.atomic import write_atomic
from src_training.io.volumes.base import Volume
from src_training.io.volumes.slabs import slabs

# Beyond it, ImageJ's own TIFF holds no more.
_IMAGEJ_BYTES = 2**32


def write_tiff_labels(volume: Volume, labels: Any, path: Path) -> None:
    """Write labels as zlib-compressed TIFF on canonical axes, slice by slice.

    ImageJ's metadata; those of OME where the name ends in ``.ome.tif``, or
    where the labels are 4 GB or more. No spacing where the volume tells none.

    Parameters
    ----------
    volume, labels, path
        As `src_training.io.volumes.label_writing.write_labels_like`.

    Raises
    ------
    InputError, OSError
        As there.
    """
    name = path.name.lower()
    large = int(np.prod(labels.shape, dtype=np.int64)) >= _IMAGEJ_BYTES
    described = _ome(volume) if large or ".ome." in name else _imagej(volume)

    def write(temporary: Path) -> None:
        tifffile.imwrite(
            temporary,
            _slices(labels, path),
            shape=tuple(labels.shape),
            dtype=np.uint8,
            photometric="minisblack",
            compression="zlib",
            **described,
        )

    write_atomic(path, write)


def _slices(labels: Any, path: Path) -> Iterator[NDArray[np.uint8]]:
    for slab in slabs(labels, path):
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
    described: dict[str, Any] = {"axes": "ZYX"}
    for axis, step in zip("ZYX", volume.spacing or (), strict=False):
        described[f"PhysicalSize{axis}"] = step
        described[f"PhysicalSize{axis}Unit"] = "mm"
    return {"ome": True, "bigtiff": True, "metadata": described}
