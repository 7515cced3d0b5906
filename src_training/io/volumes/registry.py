"""The formats of volumes, and what asks them: opening, labels, folders, names.

A further format is one file that defines a `VolumeFormat`, and its line in `FORMATS`.
"""

from pathlib import Path
from typing import Any

from src_training.errors import InputError
from src_training.io.images import image_files
from src_training.io.volumes.base import Volume, VolumeFormat
from src_training.io.volumes.dicom import DICOM
from src_training.io.volumes.nifti import NIFTI
from src_training.io.volumes.omezarr import OME_ZARR
from src_training.io.volumes.tiff import TIFF

FORMATS: dict[str, VolumeFormat] = {
    each.name: each
    for each in (
        NIFTI,
        TIFF,
        OME_ZARR,
        DICOM,
    )
}
"""Formats by name; the first that recognises a path reads it."""


def format_of(path: Path) -> VolumeFormat | None:
    """Return the format that recognises a file or folder; None if none does."""
    return next((each for each in FORMATS.values() if each.recognises(path)), None)


def open_volume(path: Path) -> Volume:
    """Open a volume lazily.

    Parameters
    ----------
    path
        A file or folder of one of the `FORMATS`.

    Raises
    ------
    InputError
        If `path` is missing, of no known format, or not one whole volume on a
        regular grid; one sentence that names it.

    Examples
    --------
    >>> import tempfile, tifffile
    >>> import numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "stack.tif"
    ...     voxels = np.zeros((5, 32, 40), np.uint16)
    ...     metadata = {"axes": "ZYX", "spacing": 2.0, "unit": "mm"}
    ...     tifffile.imwrite(path, voxels, imagej=True, resolution=(2, 2), metadata=metadata)
    ...     volume = open_volume(path)
    ...     volume.format, volume.shape, volume.spacing
    ('tiff', (5, 32, 40), (2.0, 0.5, 0.5))
    """
    volumes = open_volumes(path)
    if len(volumes) > 1:
        names = ", ".join(volume.name or "unnamed" for volume in volumes)
        raise InputError(f"{path} holds {len(volumes)} channels ({names}); expected one")
    return volumes[0]


def open_volumes(path: Path) -> list[Volume]:
    """Open every channel of a volume lazily, one at least; otherwise as `open_volume`."""
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist; expected a volume")
    # A file that only has the suffix of a format is refused by that format's reader.
    found = format_of(path) or next((f for f in FORMATS.values() if f.suffix_of(path)), None)
    if found is None:
        expected = [
            each for f in FORMATS.values() for each in f.suffixes or (f"a {f.name} folder",)
        ]
        raise InputError(f"{path} is no volume; expected one of {', '.join(expected)}")
    return found.read(path)


def volume_name(path: Path) -> str:
    """Return the name of a volume's file or folder without the suffix of its format.

    Examples
    --------
    >>> volume_name(Path("scans/liver.1.nii.gz"))
    'liver.1'
    """
    suffix = max((each.suffix_of(path) for each in FORMATS.values()), key=len)
    return path.name[: len(path.name) - len(suffix)]


def list_folder(folder: Path, *, domain: bool = False) -> tuple[list[Path], list[Path]]:
    """List the volumes and the images of a folder, each by name, without hidden ones.

    Parameters
    ----------
    folder
        Both lists are empty if it does not exist.
    domain
        List only volumes that a domain may hold.

    Returns
    -------
    tuple of list of Path
        Volumes, and images: a TIFF or zarr that is a volume is no image.
    """
    if not folder.is_dir():
        return [], []
    volumes = []
    for path in sorted(folder.iterdir()):
        found = None if path.name.startswith(".") else format_of(path)
        if found is not None and (found.in_domains or not domain):
            volumes.append(path)
    return volumes, [image for image in image_files(folder) if image not in set(volumes)]


def label_path(volume: Volume, folder: Path) -> Path:
    """Return where the labels of a volume go in a folder: its own format, if that is written."""
    own = FORMATS[volume.format]
    suffixes = own.label_suffixes or next(iter(FORMATS.values())).label_suffixes
    suffix = own.suffix_of(volume.path)
    return folder / (volume_name(volume.path) + (suffix if suffix in suffixes else suffixes[0]))


def write_labels_like(volume: Volume, labels: Any, path: Path) -> None:
    """Write labels of a volume, atomically and slab by slab.

    Parameters
    ----------
    volume
        What the labels belong to; its voxels are not read.
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
        volume itself.
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
    written = {each: each.write_labels for each in FORMATS.values() if each.write_labels}
    for each, write in written.items():
        if each.suffix_of(path) or (each.takes_labels is not None and each.takes_labels(path)):
            return write(volume, labels, path)
    expected = ", ".join(suffix for each in written for suffix in each.suffixes)
    raise InputError(f"labels cannot be written to {path}; expected one of {expected}")
