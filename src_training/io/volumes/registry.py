"""The registry of volume formats: opening volumes, listing folders, and writing labels.

To add a format, define a `VolumeFormat` in a new module, and add it to `FORMATS`.
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
"""Name -> format; the first format that recognises a path reads it."""


def format_of(path: Path) -> VolumeFormat | None:
    """Return the format that recognises a file or folder; None if none does."""
    return next((each for each in FORMATS.values() if each.recognises(path)), None)


def open_volume(path: Path) -> Volume:
    """Open a volume lazily.

    Parameters
    ----------
    path
        File or folder in one of the `FORMATS`.

    Raises
    ------
    InputError
        If `path` is missing, of unknown format, or not a single complete volume on a
        regular grid.

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
    """Open every channel of a volume lazily; otherwise like `open_volume`."""
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist; expected a volume")
    # If only the suffix matches, the reader of that format raises an error with the reason.
    reader = format_of(path) or next((f for f in FORMATS.values() if f.suffix_of(path)), None)
    if reader is None:
        expected = [
            each for f in FORMATS.values() for each in f.suffixes or (f"a {f.name} folder",)
        ]
        raise InputError(f"{path} is no volume; expected one of {', '.join(expected)}")
    return reader.read(path)


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
    """List the volumes and the images of a folder, sorted by name, without hidden ones.

    Parameters
    ----------
    folder
        Folder to list; both lists are empty if it does not exist.
    domain
        Whether to list only volumes of formats that a domain may contain.

    Returns
    -------
    tuple of list of Path
        Volumes, and images; a TIFF or zarr that is a volume is not listed as an image.
    """
    if not folder.is_dir():
        return [], []
    volumes = []
    for path in sorted(folder.iterdir()):
        volume_format = None if path.name.startswith(".") else format_of(path)
        if volume_format is not None and (volume_format.in_domains or not domain):
            volumes.append(path)
    return volumes, [image for image in image_files(folder) if image not in set(volumes)]


def label_path(volume: Volume, folder: Path) -> Path:
    """Return the path of a volume's labels in a folder, in its own format if that is writable."""
    own = FORMATS[volume.format]
    suffixes = own.label_suffixes or next(iter(FORMATS.values())).label_suffixes
    suffix = own.suffix_of(volume.path)
    return folder / (volume_name(volume.path) + (suffix if suffix in suffixes else suffixes[0]))


def write_labels_like(volume: Volume, labels: Any, path: Path) -> None:
    """Write labels of a volume, atomically and slab by slab.

    Parameters
    ----------
    volume
        Volume that the labels belong to; its voxels are not read.
    labels
        Class indices from 0 to 255 with canonical axes, (Z, Y, X): NumPy,
        dask or zarr, bool or integer. At most about 64 MB and a chunk are
        in memory at a time.
    path
        ``.nii`` or ``.nii.gz`` is written with the axes and the header of the volume if
        that is NIfTI; ``.tif`` with canonical axes and resolution; ``.zarr``, or
        ``IMAGE.zarr/labels/NAME``, as an OME-Zarr label image.

    Raises
    ------
    InputError
        If the suffix, the shape or a value is not supported, or `path` is the
        volume itself.
    OSError
        If the file cannot be written; an existing file is then unchanged.
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
    writers = {each: each.write_labels for each in FORMATS.values() if each.write_labels}
    for each, write in writers.items():
        if each.suffix_of(path) or (each.takes_labels is not None and each.takes_labels(path)):
            return write(volume, labels, path)
    expected = ", ".join(suffix for each in writers for suffix in each.suffixes)
    raise InputError(f"labels cannot be written to {path}; expected one of {expected}")
