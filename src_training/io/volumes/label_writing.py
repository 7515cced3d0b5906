"""Writing labels of a volume back onto the grid of its file."""

from pathlib import Path
from typing import Any

from src_training.errors import InputError
from src_training.io.image_decoders import TIFF_SUFFIXES
from src_training.io.volumes.base import Volume
from src_training.io.volumes.nifti import NIFTI_SUFFIXES
from src_training.io.volumes.nifti_labels import write_nifti_labels
from src_training.io.volumes.omezarr_labels import write_zarr_labels
from src_training.io.volumes.tiff_labels import write_tiff_labels

LABEL_SUFFIXES = (".nii.gz", ".nii", ".tif", ".tiff", ".zarr")


def write_labels_like(volume: Volume, labels: Any, path: Path) -> None:
    """Write labels of a volume, atomically and slab by slab.

    Parameters
    ----------
    volume
        What the labels are of; its voxels are not read.
    labels
        Class indices from 0 to 255 on its canonical axes, (Z, Y, X): NumPy,
        dask or zarr, bool or integer. At most about 64 MB and a chunk are
        in memory at a time.
    path
        ``.nii`` or ``.nii.gz``: on the axes of the file, with its header where
        that is NIfTI. ``.tif``: canonical, with resolution. ``.zarr``, or
        ``IMAGE.zarr/labels/NAME``: an OME-Zarr label image.

    Raises
    ------
    InputError
        If the suffix, the shape or a value does not fit, or `path` is the
        source itself.
    OSError
        If the file cannot be written; a former file stays whole.
    """
    path = Path(path)
    if path.resolve() == volume.path.resolve():
        raise InputError(f"{path} is the volume itself; expected another path for its labels")
    if tuple(labels.shape) != volume.shape:
        raise InputError(
            f"labels for {path} have shape {tuple(labels.shape)}; "
            f"expected {volume.shape}, that of {volume.path}"
        )
    if labels.dtype.kind not in "bui":
        raise InputError(f"labels for {path} are {labels.dtype}; expected integers from 0 to 255")
    name = path.name.lower()
    if name.endswith(NIFTI_SUFFIXES):
        write_nifti_labels(volume, labels, path)
    elif path.suffix.lower() in TIFF_SUFFIXES:
        write_tiff_labels(volume, labels, path)
    elif name.endswith(".zarr") or path.parent.name == "labels":
        write_zarr_labels(volume, labels, path)
    else:
        raise InputError(
            f"labels cannot be written to {path}; expected one of {', '.join(LABEL_SUFFIXES)}"
        )
