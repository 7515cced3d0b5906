"""NIfTI: reading volumes slice by slice, and writing labels on the same grid."""

import gzip
import math
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from src_training.errors import InputError
from src_training.extras import require
from src_training.io.atomic import write_atomic
from src_training.io.decoders.base import as_input_error
from src_training.io.volumes.base import (
    Affine,
    Volume,
    VolumeFormat,
    orientation_of,
    spacing_of,
)
from src_training.io.volumes.lazy import (
    StoredArray,
    as_dask,
    label_slabs,
    number_dtype,
    three_axes,
)

_SUFFIXES = (".nii.gz", ".nii")
# Bytes between two points of the index of a .nii.gz, from which decompression can start.
_INDEXED = 2**22
# Code of the unit (nifti1.h) -> millimetres; unknown units are assumed to be mm.
_MILLIMETRES = {1: 1000.0, 2: 1.0, 3: 0.001}
_SPACE = 7
# Codes of the coordinate systems "scanner" and "aligned" of an affine (nifti1.h).
_SCANNER, _ALIGNED = 1, 2
# NIFTI_INTENT_LABEL: voxels are indices of a set of labels.
_LABELS = 1002


def read_nifti(path: Path) -> list[Volume]:
    """Open a NIfTI-1 or NIfTI-2 file.

    Parameters
    ----------
    path
        ``.nii`` is memory-mapped, so that only the requested slices are read.
        ``.nii.gz`` is read through an index of its stream, which is built on the fly:
        the first read of a slice also decompresses everything before it.

    Returns
    -------
    list of Volume
        One volume, of the stored dtype, or of float32 if the header has a slope
        or an intercept, in chunks of one slice (about 4 MB for ``.nii.gz``).

    Raises
    ------
    InputError
        If the file is missing, truncated, not three-dimensional, of colours
        or complex numbers, sheared, or without an orientation code.

    Examples
    --------
    >>> import nibabel, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "scan.nii"
    ...     affine = np.diag([0.5, 0.75, 2.0, 1.0])
    ...     nibabel.save(nibabel.Nifti1Image(np.zeros((3, 4, 5), np.int16), affine), path)
    ...     (volume,) = read_nifti(path)
    ...     volume.shape, volume.spacing
    ((5, 4, 3), (2.0, 0.75, 0.5))
    """
    require("volumes", "NIfTI", "nibabel", "indexed_gzip")
    with as_input_error(path, "a NIfTI file"):
        image = _load(path)
    header = image.header
    shape = three_axes(image.shape, path, leading=False)
    if int(header["qform_code"]) == 0 and int(header["sform_code"]) == 0:
        raise InputError(
            f"{path} has neither a qform nor an sform code; "
            "expected one, which says how its axes lie in the patient"
        )
    dtype = _dtype(image, path)
    affine = _affine(image)
    affine[:3] *= _MILLIMETRES.get(int(header["xyzt_units"]) & _SPACE, 1.0)
    spacing = spacing_of(affine, path)
    orientation = orientation_of(affine)
    stored = StoredArray(path, partial(_voxels, path, shape), shape, dtype)
    voxels = as_dask(stored, (shape[0], shape[1], _slices_at_once(image, path)))
    volume = Volume(
        voxels=orientation.to_canonical(voxels),
        spacing=orientation.spacing(spacing),
        path=path,
        format="nifti",
        orientation=orientation,
        affine=affine,
        labels=int(header["intent_code"]) == _LABELS,
    )
    return [volume]


def _affine(image: Any) -> Affine:
    """The affine that nibabel chooses, except that an sform of zeros does not hide a qform."""
    header = image.header
    if int(header["qform_code"]) > 0 and not np.any(header.get_sform()[:3, :3]):
        return np.array(header.get_qform(), float)
    return np.array(image.affine, float)


def _load(path: Path) -> Any:
    import nibabel

    image = nibabel.load(path)
    if not isinstance(image, (nibabel.Nifti1Image, nibabel.Nifti2Image)):
        raise InputError(f"{path} holds {type(image).__name__}; expected NIfTI")
    proxy: Any = image.dataobj
    needed = int(proxy.offset) + math.prod(map(int, proxy.shape)) * proxy.dtype.itemsize
    if path.suffix.lower() == ".nii" and path.stat().st_size < needed:
        raise InputError(
            f"{path} is truncated: {path.stat().st_size} of {needed} bytes; expected all of them"
        )
    return image


def _slices_at_once(image: Any, path: Path) -> int:
    if path.suffix.lower() != ".gz":
        return 1
    columns, rows, slices = image.shape[:3]
    return int(min(slices, max(1, _INDEXED // (columns * rows * image.dataobj.dtype.itemsize))))


def _voxels(path: Path, shape: tuple[int, ...]) -> Any:
    """Return the array proxy, which rescales values when read, with three axes."""
    return _load(path).dataobj.reshape(shape)


def _dtype(image: Any, path: Path) -> np.dtype[Any]:
    dtype = number_dtype(image.get_data_dtype(), path)
    scaled = (image.dataobj.slope, image.dataobj.inter) != (1, 0)
    return np.dtype(np.float32) if scaled else dtype


def write_nifti_labels(volume: Volume, labels: Any, path: Path) -> None:
    """Write labels as uint8 NIfTI, slab by slab; see `write_labels_like`.

    If the source is NIfTI, its header is used: affine, codes, units,
    description and extensions. Otherwise the axes are (x, y, z) and the affine
    is the volume's. Without an affine, it is that of canonical axes with the volume's
    spacing, or with spacing 1 of unknown unit.

    Raises
    ------
    InputError
        If a label is out of range, or nibabel is not installed.
    OSError
        If the file cannot be written; an existing file is then unchanged.
    """
    require("volumes", "NIfTI", "nibabel")
    labels = labels if isinstance(labels, np.ndarray) else _lazy(labels)
    if volume.format == "nifti":
        header, voxels = _source_header(volume), volume.orientation.to_source(labels)
    else:
        header, voxels = _new_header(volume), labels.transpose(2, 1, 0)
    write_atomic(path, lambda temporary: _write(temporary, path, header, voxels))


def _lazy(labels: Any) -> Any:
    import dask.array as da

    return labels if isinstance(labels, da.Array) else da.from_array(labels, name=False)


def _source_header(volume: Volume) -> Any:
    import nibabel

    source = cast(Any, nibabel.load(volume.path))
    header = source.header.copy()
    header["cal_min"] = header["cal_max"] = 0
    header["intent_code"] = 0
    return _as_labels(header, source.shape)


def _new_header(volume: Volume) -> Any:
    import nibabel

    header = nibabel.Nifti1Header()
    affine = _affine_of_xyz(volume)
    code = _ALIGNED if volume.affine is None else _SCANNER
    header.set_data_shape(volume.shape[::-1])
    header.set_sform(affine, code)
    header.set_qform(affine, code)
    header.set_xyzt_units("unknown" if volume.spacing is None else "mm")
    return _as_labels(header, volume.shape[::-1])


def _affine_of_xyz(volume: Volume) -> Affine:
    """Affine, 4 × 4, from canonical indices in the order (x, y, z) to RAS+."""
    affine = volume.canonical_affine
    if affine is not None:
        return affine[:, [2, 1, 0, 3]]
    z, y, x = volume.spacing or (1.0, 1.0, 1.0)
    return np.diag([-x, -y, z, 1.0])


def _as_labels(header: Any, shape: tuple[int, ...]) -> Any:
    header.set_data_shape(shape)
    header.set_data_dtype(np.uint8)
    header.set_slope_inter(1, 0)
    header["vox_offset"] = 0  # computed when written
    return header


def _write(temporary: Path, path: Path, header: Any, voxels: Any) -> None:
    with temporary.open("wb") as raw:
        if path.suffix.lower() == ".gz":
            with gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0) as packed:
                _stream(cast(IO[bytes], packed), path, header, voxels)
        else:
            _stream(raw, path, header, voxels)


def _stream(file: IO[bytes], path: Path, header: Any, voxels: Any) -> None:
    header.write_to(file)
    file.write(bytes(int(header["vox_offset"]) - file.tell()))
    for slab in label_slabs(voxels, path, axis=2):
        file.write(slab.tobytes(order="F"))


def _recognises(path: Path) -> bool:
    return path.is_file() and path.name.lower().endswith(_SUFFIXES)


NIFTI = VolumeFormat(
    name="nifti",
    suffixes=_SUFFIXES,
    recognises=_recognises,
    read=read_nifti,
    write_labels=write_nifti_labels,
    label_suffixes=_SUFFIXES,
)
