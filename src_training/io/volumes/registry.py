"""One door to every format of volume."""

from pathlib import Path

from src_training.errors import InputError
from src_training.io.image_decoders import TIFF_SUFFIXES
from src_training.io.volumes.base import Kind, Volume
from src_training.io.volumes.dicom import is_dicom, read_dicom
from src_training.io.volumes.nifti import NIFTI_SUFFIXES, read_nifti
from src_training.io.volumes.omezarr import is_zarr, read_zarr
from src_training.io.volumes.tiff import read_tiff


def open_volume(path: Path) -> Volume:
    """Open a volume lazily.

    Parameters
    ----------
    path
        NIfTI, a TIFF stack, or a folder: DICOM series, zarr array, OME-Zarr.

    Raises
    ------
    InputError
        If `path` is missing, of no known format, or not one whole volume on a
        regular grid; one sentence that names it.
    """
    volumes = open_volumes(path)
    if len(volumes) > 1:
        names = ", ".join(volume.name or "unnamed" for volume in volumes)
        raise InputError(f"{path} holds {len(volumes)} channels ({names}); expected one")
    return volumes[0]


def open_volumes(path: Path) -> list[Volume]:
    """Open every channel of a volume lazily, one at least; otherwise as `open_volume`."""
    path = Path(path)
    kind = volume_kind(path)
    if kind == "nifti":
        return [read_nifti(path)]
    if kind == "tiff":
        return [read_tiff(path)]
    if kind == "dicom":
        return [read_dicom(path)]
    if kind is not None:
        return read_zarr(path)
    if not path.exists():
        raise InputError(f"{path} does not exist; expected a volume")
    raise InputError(
        f"{path} is no volume; expected .nii, .nii.gz or .tif, "
        "or a folder that is a DICOM series or zarr"
    )


def volume_kind(path: Path) -> Kind | None:
    """The format of a path, by its suffix or by what marks a folder; None if no volume's."""
    if path.is_file():
        if path.name.lower().endswith(NIFTI_SUFFIXES):
            return "nifti"
        return "tiff" if path.suffix.lower() in TIFF_SUFFIXES else None
    if not path.is_dir():
        return None
    if is_zarr(path):
        return "zarr3" if (path / "zarr.json").is_file() else "zarr2"
    return "dicom" if any(is_dicom(file) for file in path.iterdir()) else None
