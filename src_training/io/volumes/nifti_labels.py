"""Writing labels as NIfTI, on the grid of their source."""

import gzip
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from src_training.extras import require
from src_training.io.atomic import write_atomic
from src_training.io.volumes.base import Volume
from src_training.io.volumes.orientation import Affine
from src_training.io.volumes.slabs import slabs

# "Aligned" and "scanner": what an affine relates to (nifti1.h).
_SCANNER, _ALIGNED = 1, 2


def write_nifti_labels(volume: Volume, labels: Any, path: Path) -> None:
    """Write labels as uint8 NIfTI, streaming.

    The header is that of the source where this is NIfTI: affine, codes, units,
    description and extensions. Else the axes are (x, y, z) and the affine is
    the volume's, or, where it tells none, that of canonical axes at its
    spacing; 1 of unknown unit where it tells no spacing either.

    Parameters
    ----------
    volume, labels, path
        As `src_training.io.volumes.label_writing.write_labels_like`.

    Raises
    ------
    InputError, OSError
        As there; the former also if nibabel is not installed.
    """
    require("volumes", "NIfTI", "nibabel")
    labels = labels if isinstance(labels, np.ndarray) else _lazy(labels)
    if volume.kind == "nifti":
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
    """4 × 4, from canonical indices in the order (x, y, z) to RAS+."""
    affine = volume.canonical_affine
    if affine is not None:
        return affine[:, [2, 1, 0, 3]]
    z, y, x = volume.spacing or (1.0, 1.0, 1.0)
    return np.diag([-x, -y, z, 1.0])


def _as_labels(header: Any, shape: tuple[int, ...]) -> Any:
    header.set_data_shape(shape)
    header.set_data_dtype(np.uint8)
    header.set_slope_inter(1, 0)
    header["vox_offset"] = 0  # counted anew when written
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
    for slab in slabs(voxels, path, axis=2):
        file.write(slab.tobytes(order="F"))
