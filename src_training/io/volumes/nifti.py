"""NIfTI: what a header says of a grid, and voxels slice by slice."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from src_training.errors import InputError
from src_training.extras import require
from src_training.io.volumes.base import Volume
from src_training.io.volumes.lazy import StoredArray, as_dask, number_dtype, told
from src_training.io.volumes.orientation import orientation_of, spacing_of

NIFTI_SUFFIXES = (".nii", ".nii.gz")

# Bytes between two points of the index of a .nii.gz: less cannot be had without them.
_INDEXED = 2**22
_MILLIMETRES = {"unknown": 1.0, "mm": 1.0, "meter": 1000.0, "micron": 0.001}


def read_nifti(path: Path) -> Volume:
    """Open a NIfTI-1 or NIfTI-2 file.

    Parameters
    ----------
    path
        ``.nii`` is mapped into memory, so any slice costs itself. ``.nii.gz``
        is read through an index of its stream that grows as it is read: a
        slice costs what lies before it the first time, and itself from then on.

    Returns
    -------
    Volume
        Of the stored dtype, or float32 where the header has a slope or an
        intercept, in chunks of one slice of the file (about 4 MB of ``.nii.gz``).

    Raises
    ------
    InputError
        If the file is missing, cut short, not three-dimensional, of colours
        or complex numbers, sheared, or without an orientation code.
    """
    require("volumes", "NIfTI", "nibabel", "indexed_gzip")
    with told(path, "a NIfTI file"):
        image = _load(path)
    header = image.header
    shape = _three_axes(image.shape, path)
    if int(header["qform_code"]) == 0 and int(header["sform_code"]) == 0:
        raise InputError(
            f"{path} has neither a qform nor an sform code; "
            "expected one, which tells how its axes lie in the patient"
        )
    dtype = _dtype(image, path)
    affine = np.asarray(image.affine, float).copy()
    affine[:3] *= _MILLIMETRES[header.get_xyzt_units()[0]]
    spacing = spacing_of(affine, path)
    orientation = orientation_of(affine)
    stored = StoredArray(path, partial(_voxels, path, shape), shape, dtype)
    voxels = as_dask(stored, (shape[0], shape[1], _slices_at_once(image, path)))
    return Volume(
        voxels=orientation.to_canonical(voxels),
        spacing=orientation.spacing(spacing),
        path=path,
        kind="nifti",
        orientation=orientation,
        affine=affine,
    )


def _load(path: Path) -> Any:
    import nibabel

    image = nibabel.load(path)
    if not isinstance(image, (nibabel.Nifti1Image, nibabel.Nifti2Image)):
        raise InputError(f"{path} holds {type(image).__name__}; expected NIfTI")
    proxy: Any = image.dataobj
    needed = int(proxy.offset) + int(np.prod(proxy.shape)) * proxy.dtype.itemsize
    if path.suffix.lower() == ".nii" and path.stat().st_size < needed:
        raise InputError(
            f"{path} is cut short, {path.stat().st_size} bytes; expected the {needed} of its header"
        )
    return image


def _slices_at_once(image: Any, path: Path) -> int:
    if path.suffix.lower() != ".gz":
        return 1
    columns, rows, slices = image.shape[:3]
    return int(min(slices, max(1, _INDEXED // (columns * rows * image.dataobj.dtype.itemsize))))


def _voxels(path: Path, shape: tuple[int, ...]) -> Any:
    """The file's array proxy, which scales what it reads; trailing axes of one are dropped."""
    return _load(path).dataobj.reshape(shape)


def _three_axes(shape: tuple[int, ...], path: Path) -> tuple[int, int, int]:
    if len(shape) < 3 or any(size != 1 for size in shape[3:]):
        raise InputError(
            f"{path} has {len(shape)} axes, {' x '.join(map(str, shape))}; "
            "expected the three of one volume"
        )
    if 0 in shape:
        raise InputError(f"{path} has shape {shape}, no voxels; expected at least one")
    return shape[0], shape[1], shape[2]


def _dtype(image: Any, path: Path) -> np.dtype[Any]:
    dtype = number_dtype(image.get_data_dtype(), path)
    scaled = (image.dataobj.slope, image.dataobj.inter) != (1, 0)
    return np.dtype(np.float32) if scaled else dtype
