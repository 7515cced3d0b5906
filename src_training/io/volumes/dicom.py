"""A DICOM series in a folder: slices sorted along the patient, on one regular grid."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_training.errors import InputError
from src_training.extras import require
from src_training.io.decoders import as_input_error
from src_training.io.volumes.base import (
    Affine,
    Volume,
    VolumeFormat,
    orientation_of,
    spacing_of,
)
from src_training.io.volumes.lazy import StoredArray, as_dask

# A gap between slices may differ from the median by this share: positions are rounded.
_UNEVEN = 0.1
# Closer than this, mm, two slices have one position.
_SAME = 0.01
_TAGS = [
    "SeriesInstanceUID",
    "SeriesDescription",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "PhotometricInterpretation",
    "BitsStored",
    "PixelRepresentation",
    "RescaleSlope",
    "RescaleIntercept",
]
_NEEDED = ("ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing", "Rows", "Columns")


@dataclass(frozen=True)
class _Slice:
    """Header of a slice; lengths in mm, axes LPS."""

    path: Path
    header: Any

    @property
    def position(self) -> NDArray[np.float64]:
        return np.asarray(self.header.ImagePositionPatient, float)

    @property
    def grid(self) -> dict[str, tuple[float, ...]]:
        """Values that all slices of a series share."""
        return {
            "size": (int(self.header.Rows), int(self.header.Columns)),
            "PixelSpacing": _rounded(self.header.PixelSpacing),
            "ImageOrientationPatient": _rounded(self.header.ImageOrientationPatient),
        }

    @property
    def rescale(self) -> tuple[float, float]:
        slope, intercept = (
            float(self.header.get(name, default))
            for name, default in (("RescaleSlope", 1), ("RescaleIntercept", 0))
        )
        return slope, intercept


def read_dicom(folder: Path) -> list[Volume]:
    """Open the one series of a folder.

    Slices are sorted along the normal of their plane, whatever the names of
    their files and their instance numbers. Each slice has its own rescale, as
    PET needs.

    Returns
    -------
    list of Volume
        One, in chunks of one slice: int16 or int32 where every rescale is
        whole, else float32.

    Raises
    ------
    InputError
        If there is no DICOM file or more than one series, a slice is missing,
        double, of another spacing, size or orientation, or has no position;
        if the gantry was tilted; or if files hold colours or many frames.
    """
    require("volumes", "DICOM", "pydicom", "nibabel")
    slices = [_slice(file) for file in sorted(folder.iterdir()) if _is_dicom(file)]
    if not slices:
        raise InputError(f"{folder} holds no DICOM file; expected the slices of a series")
    _one_series(slices, folder)
    _one_grid(slices)
    slices = _in_order(slices, folder)
    first = slices[0].header
    affine = _affine(slices)
    spacing = spacing_of(affine, folder)
    orientation = orientation_of(affine)
    shape = (len(slices), int(first.Rows), int(first.Columns))
    rescales = tuple(each.rescale for each in slices)
    files = tuple(each.path for each in slices)
    stored = StoredArray(folder, partial(_SliceFiles, files, rescales), shape, _dtype(slices))
    volume = Volume(
        voxels=orientation.to_canonical(as_dask(stored, (1, *shape[1:]))),
        spacing=orientation.spacing(spacing),
        path=folder,
        format="dicom",
        orientation=orientation,
        affine=affine,
        name=str(first.get("SeriesDescription", "")),
    )
    return [volume]


@dataclass(frozen=True)
class _SliceFiles:
    """Rescaled values (slice, row, column), read file by file."""

    files: tuple[Path, ...]
    rescales: tuple[tuple[float, float], ...]

    def __getitem__(self, index: tuple[Any, Any, Any]) -> NDArray[np.float64]:
        along, *plane = index
        wanted = np.arange(len(self.files))[along]
        read = [self._slice(each)[tuple(plane)] for each in wanted.ravel()]
        return read[0] if wanted.ndim == 0 else np.stack(read)

    def _slice(self, number: int) -> NDArray[np.float64]:
        from pydicom import dcmread

        slope, intercept = self.rescales[number]
        with as_input_error(self.files[number], "a whole DICOM slice"):
            return np.asarray(dcmread(self.files[number]).pixel_array * slope + intercept)


def _slice(file: Path) -> _Slice:
    from pydicom import dcmread

    with as_input_error(file, "a DICOM slice"):
        header = dcmread(file, stop_before_pixels=True, specific_tags=_TAGS)
    for tag in _NEEDED:
        if header.get(tag) in (None, ""):
            raise InputError(f"{file} has no {tag}; expected every slice to have its position")
    if int(header.get("NumberOfFrames") or 1) > 1:
        raise InputError(
            f"{file} holds {header.NumberOfFrames} frames; expected a file for each slice"
        )
    if header.get("PhotometricInterpretation") != "MONOCHROME2":
        raise InputError(
            f"{file} is {header.get('PhotometricInterpretation')}; expected MONOCHROME2"
        )
    return _Slice(file, header)


def _one_series(slices: Sequence[_Slice], folder: Path) -> None:
    series = {str(each.header.get("SeriesInstanceUID", "")) for each in slices}
    if len(series) > 1:
        raise InputError(f"{folder} holds {len(series)} series; expected a folder for each")


def _one_grid(slices: Sequence[_Slice]) -> None:
    for name in slices[0].grid:
        found = Counter(each.grid[name] for each in slices)
        usual = found.most_common(1)[0][0]
        for each in slices:
            if each.grid[name] != usual:
                raise InputError(
                    f"{each.path} has {name} {_listed(each.grid[name])}; "
                    f"expected {_listed(usual)} as in the other slices"
                )


def _in_order(slices: Sequence[_Slice], folder: Path) -> list[_Slice]:
    """Return slices sorted along the normal of their plane; InputError unless evenly spaced."""
    along = {each.path: float(each.position @ _normal(each)) for each in slices}
    ordered = sorted(slices, key=lambda each: along[each.path])
    gaps = [along[b.path] - along[a.path] for a, b in pairwise(ordered)]
    usual = float(np.median(gaps)) if gaps else 0.0
    for (before, after), gap in zip(pairwise(ordered), gaps, strict=True):
        if gap < _SAME:
            raise InputError(
                f"{folder} has a duplicate slice, {before.path.name} and {after.path.name} "
                "at one position; expected each position once"
            )
        if gap > 1.5 * usual:
            raise InputError(
                f"{folder} misses a slice between {before.path.name} and {after.path.name}, "
                f"{gap:g} mm apart; expected {usual:g} mm as between the others"
            )
        if abs(gap - usual) > _UNEVEN * usual:
            raise InputError(
                f"{folder} has mixed spacings, {gap:g} mm between {before.path.name} and "
                f"{after.path.name}; expected {usual:g} mm as between the others"
            )
    return ordered


def _normal(of: _Slice) -> NDArray[np.float64]:
    unit_vectors = np.asarray(of.header.ImageOrientationPatient, float)
    return np.cross(unit_vectors[:3], unit_vectors[3:])


def _affine(slices: Sequence[_Slice]) -> Affine:
    """Return the affine from (slice, row, column) to RAS+ in mm (DICOM PS3.3 C.7.6.2.1.1)."""
    first, last = slices[0], slices[-1]
    unit_vectors = np.asarray(first.header.ImageOrientationPatient, float)
    between_rows, between_columns = (float(each) for each in first.header.PixelSpacing)
    affine = np.eye(4)
    if len(slices) > 1:
        affine[:3, 0] = (last.position - first.position) / (len(slices) - 1)
    else:
        affine[:3, 0] = _normal(first) * float(first.header.get("SliceThickness") or 0)
    affine[:3, 1] = unit_vectors[3:] * between_rows
    affine[:3, 2] = unit_vectors[:3] * between_columns
    affine[:3, 3] = first.position
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def _dtype(slices: Sequence[_Slice]) -> np.dtype[Any]:
    """Return the smallest dtype that holds every value a slice can have."""
    if not all(number.is_integer() for each in slices for number in each.rescale):
        return np.dtype(np.float32)
    reach = []
    for each in slices:
        bits = int(each.header.get("BitsStored", 16))
        signed = int(each.header.get("PixelRepresentation", 0)) == 1
        slope, intercept = each.rescale
        ends = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
        reach += [end * slope + intercept for end in ends]
    fits = np.iinfo(np.int16)
    return np.dtype(np.int16 if fits.min <= min(reach) and max(reach) <= fits.max else np.int32)


def _rounded(numbers: Any) -> tuple[float, ...]:
    return tuple(round(float(number), 4) for number in numbers)


def _listed(numbers: Sequence[float]) -> str:
    return " x ".join(f"{number:g}" for number in numbers)


def _is_dicom(file: Path) -> bool:
    """Whether a file, whatever its name, has ``DICM`` after 128 bytes."""
    if not file.is_file():
        return False
    with file.open("rb") as opened:
        return opened.read(132)[128:] == b"DICM"


def _recognises(path: Path) -> bool:
    return path.is_dir() and any(_is_dicom(file) for file in path.iterdir())


DICOM = VolumeFormat(name="dicom", suffixes=(), recognises=_recognises, read=read_dicom)
