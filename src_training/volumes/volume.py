"""A volume in HU on canonical axes, whatever its file made of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np

from src_training.errors import InputError

NIFTI_SUFFIXES = (".nii", ".nii.gz")


@dataclass(frozen=True, eq=False)
class Volume:
    """A volume that is read when it is sliced.

    Attributes
    ----------
    voxels
        (Z, Y, X) dask array, z from inferior to superior, y from anterior to
        posterior, x from right to left (the LPS of DICOM), in HU where the
        file tells a rescale.
    spacing
        Millimetres along z, y and x.
    """

    voxels: Any
    spacing: tuple[float, float, float]


def open_volume(path: Path) -> Volume:
    """Open a NIfTI file, ``.nii`` or ``.nii.gz``.

    Raises
    ------
    InputError
        If the file cannot be read or is no 3-D volume, or nibabel is missing.
    """
    try:
        import nibabel as nib
        from nibabel import orientations
        from nibabel.filebasedimages import ImageFileError
    except ImportError:
        raise InputError(
            f"{path}: reading volumes takes nibabel; expected napari-msankd[volumes]"
        ) from None
    try:
        image = nib.load(path)
        found = orientations.io_orientation(image.affine)
        turned = image.as_reoriented(
            orientations.ornt_transform(found, orientations.axcodes2ornt("LPS"))
        )
        voxels = np.asanyarray(turned.dataobj)
    except (OSError, EOFError, ValueError, ImageFileError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path} cannot be read ({reason}); expected a whole NIfTI file") from None
    if voxels.ndim != 3:
        raise InputError(f"{path} has shape {voxels.shape}; expected one volume of three axes")
    x, y, z = (float(step) for step in turned.header.get_zooms()[:3])
    planes = np.ascontiguousarray(voxels.transpose(2, 1, 0))
    return Volume(da.from_array(planes, chunks=(1, -1, -1)), (z, y, x))
