"""One door to every format of volume."""

from pathlib import Path

from src_training.errors import InputError
from src_training.volumes.nifti import NIFTI_SUFFIXES, read_nifti
from src_training.volumes.volume import Kind, Volume


def open_volume(path: Path) -> Volume:
    """Open a volume lazily.

    Raises
    ------
    InputError
        If `path` is missing, of no known format, or not one whole volume on a
        regular grid; one sentence that names it.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist; expected a volume")
    if path.name.lower().endswith(NIFTI_SUFFIXES):
        return read_nifti(path)
    raise InputError(f"{path} is no volume; expected .nii or .nii.gz")


def volume_kind(path: Path) -> Kind | None:
    """The format of a path, by its suffix or by what marks a folder; None if no volume's."""
    return "nifti" if path.is_file() and path.name.lower().endswith(NIFTI_SUFFIXES) else None
