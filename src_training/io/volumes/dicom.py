"""DICOM series in a folder or a file: frames are sorted by position, and form a regular grid."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_training.errors import InputError
from src_training.extras import require
from src_training.io.folders import unread
from src_training.io.volumes.base import (
    Affine,
    Volume,
    VolumeFormat,
    orientation_of,
    spacing_of,
)
from src_training.io.volumes.dicom_frames import (
    Frame,
    frame_count,
    frames_of,
    is_dicom,
    read_header,
    read_pixels,
    why_left_out,
)
from src_training.io.volumes.lazy import StoredArray, as_dask

# Tolerance of gaps between slices relative to the median, because positions are rounded.
_UNEVEN = 0.1
# Distance in mm below which two slices have the same position.
_SAME = 0.01
# Tolerances for rounded headers: relative for spacings, absolute for unit vectors.
_SPACING_TOLERANCE, _DIRECTION_TOLERANCE = 1e-3, 1e-3


def read_dicom(path: Path) -> list[Volume]:
    """Open the only series of a folder, the series of a file, or an enhanced CT or MR.

    Slices are sorted along the normal of their plane, not by file names or
    instance numbers. Each slice has its own rescale, as in
    PET. Other DICOM files, as on a CD (DICOMDIR, reports,
    localizers, secondary captures without a position), are left out
    and counted in `Volume.notes`.

    Returns
    -------
    list of Volume
        One volume, in chunks of one slice: int16 or int32 if every rescale is
        an integer, else float32.

    Raises
    ------
    InputError
        If there is no slice or more than one series; a slice is missing,
        repeated, of another spacing, size or orientation, or has no position;
        the gantry was tilted; or files contain colours.
    """
    require("volumes", "DICOM", "pydicom", "nibabel")
    headers = _headers(path)
    if path.is_file() and len(headers) > 1 and headers.keys() == _headers(path.parent).keys():
        path = path.parent
    reasons = {file: why_left_out(header) for file, header in headers.items()}
    slices = {file: header for file, header in headers.items() if not reasons[file]}
    if not slices:
        raise InputError(f"{path} holds no DICOM slice; expected those of a series")
    frames = [frame for file, header in slices.items() for frame in frames_of(file, header)]
    _one_series(frames, path)
    _one_grid(frames)
    frames = _in_order(frames, path)
    if len(frames) == 1 and frames[0].thickness <= 0:
        raise InputError(
            f"{frames[0].path} has SliceThickness {frames[0].thickness:g} and is the only slice; "
            "expected one above 0, or more slices"
        )
    affine = _affine(frames)
    spacing = spacing_of(affine, path)
    orientation = orientation_of(affine)
    shape = (len(frames), *frames[0].size)
    stored = StoredArray(path, partial(_Frames, tuple(frames)), shape, _dtype(frames))
    volume = Volume(
        voxels=orientation.to_canonical(as_dask(stored, (1, *shape[1:]))),
        spacing=orientation.spacing(spacing),
        path=path,
        format="dicom",
        orientation=orientation,
        affine=affine,
        name=str(next(iter(slices.values())).get("SeriesDescription", "")),
        notes=(*_notes(reasons), *_foreign_files(path, headers)),
    )
    return [volume]


@dataclass(frozen=True)
class _Frames:
    """Rescaled values (slice, row, column), read frame by frame."""

    frames: tuple[Frame, ...]

    def __getitem__(self, index: tuple[Any, Any, Any]) -> NDArray[np.float64]:
        along, *plane = index
        indices = np.arange(len(self.frames))[along]
        slices = [read_pixels(self.frames[each])[tuple(plane)] for each in indices.ravel()]
        return slices[0] if indices.ndim == 0 else np.stack(slices)


def _headers(path: Path) -> dict[Path, Any]:
    """Headers of the DICOM files of a folder, of a file's series, or of a multi-frame file."""
    if path.is_dir():
        return {file: read_header(file) for file in sorted(path.iterdir()) if is_dicom(file)}
    header = read_header(path)
    if frame_count(path, header) > 1:
        return {path: header}
    series = header.get("SeriesInstanceUID")
    return {
        file: other
        for file, other in _headers(path.parent).items()
        if other.get("SeriesInstanceUID") == series
    }


def _notes(reasons: dict[Path, str]) -> tuple[str, ...]:
    counts = Counter(reason for reason in reasons.values() if reason)
    if not counts:
        return ()
    listed = ", ".join(f"{reason}: {count}" for reason, count in sorted(counts.items()))
    total = sum(counts.values())
    return (f"{total} DICOM file{'s' * (total > 1)} left out ({listed})",)


def _foreign_files(path: Path, headers: Collection[Path]) -> tuple[str, ...]:
    """Notes on files in the folder that are no DICOM files."""
    if not path.is_dir():
        return ()
    known = {*headers, *(each for each in path.iterdir() if each.name.upper() == "DICOMDIR")}
    return unread(path, known, "read, as no DICOM")


def _one_series(frames: Sequence[Frame], path: Path) -> None:
    series = {frame.series for frame in frames}
    if len(series) > 1:
        raise InputError(f"{path} holds {len(series)} series; expected a folder for each")


def _one_grid(frames: Sequence[Frame]) -> None:
    """Raise InputError unless all frames agree in size, spacing and orientation."""
    usual_size = Counter(frame.size for frame in frames).most_common(1)[0][0]
    spacing = tuple(np.median([frame.spacing for frame in frames], axis=0))
    orientation = tuple(np.median([frame.orientation for frame in frames], axis=0))
    for frame in frames:
        for name, actual, expected, relative, absolute in (
            ("size", frame.size, usual_size, 0.0, 0.0),
            ("PixelSpacing", frame.spacing, spacing, _SPACING_TOLERANCE, 0.0),
            ("ImageOrientationPatient", frame.orientation, orientation, 0, _DIRECTION_TOLERANCE),
        ):
            if not np.allclose(actual, expected, rtol=relative, atol=absolute):
                raise InputError(
                    f"{frame.path} has {name} {_format_numbers(actual)}; "
                    f"expected {_format_numbers(expected)} as in the other slices"
                )


def _in_order(frames: Sequence[Frame], path: Path) -> list[Frame]:
    """Return frames sorted along the normal of their plane; InputError unless evenly spaced."""
    ordered = sorted(frames, key=lambda frame: frame.along)
    gaps = [b.along - a.along for a, b in pairwise(ordered)]
    usual = float(np.median(gaps)) if gaps else 0.0
    for (before, after), gap in zip(pairwise(ordered), gaps, strict=True):
        names = _frame_name(before), _frame_name(after)
        if gap < _SAME:
            raise InputError(
                f"{path} has a duplicate slice, {names[0]} and {names[1]} "
                "at one position; expected each position once"
            )
        if gap > 1.5 * usual:
            raise InputError(
                f"{path} misses a slice between {names[0]} and {names[1]}, "
                f"{gap:g} mm apart; expected {usual:g} mm as between the others"
            )
        if abs(gap - usual) > _UNEVEN * usual:
            raise InputError(
                f"{path} has mixed spacings, {gap:g} mm between {names[0]} and "
                f"{names[1]}; expected {usual:g} mm as between the others"
            )
    return ordered


def _frame_name(frame: Frame) -> str:
    return f"{frame.path.name}, frame {frame.number + 1}" if frame.number else frame.path.name


def _affine(frames: Sequence[Frame]) -> Affine:
    """Return the affine from (slice, row, column) to RAS+ in mm (DICOM PS3.3 C.7.6.2.1.1)."""
    first, last = frames[0], frames[-1]
    affine = np.eye(4)
    if len(frames) > 1:
        between = np.subtract(last.position, first.position) / (len(frames) - 1)
    else:
        between = first.normal * first.thickness
    affine[:3, 0] = between
    affine[:3, 1] = np.asarray(first.orientation[3:]) * first.spacing[0]
    affine[:3, 2] = np.asarray(first.orientation[:3]) * first.spacing[1]
    affine[:3, 3] = first.position
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def _dtype(frames: Sequence[Frame]) -> np.dtype[Any]:
    """Return the smallest dtype that can represent every possible value of the frames."""
    rescales = {(frame.bits, frame.signed, frame.slope, frame.intercept) for frame in frames}
    if not all(slope.is_integer() and offset.is_integer() for _, _, slope, offset in rescales):
        return np.dtype(np.float32)
    limits = []
    for bits, signed, slope, intercept in rescales:
        ends = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
        limits += [end * slope + intercept for end in ends]
    int16 = np.iinfo(np.int16)
    fits = int16.min <= min(limits) and max(limits) <= int16.max
    return np.dtype(np.int16 if fits else np.int32)


def _format_numbers(numbers: Sequence[float]) -> str:
    return " x ".join(f"{number:g}" for number in numbers)


def _recognises(path: Path) -> bool:
    return path.is_dir() and any(is_dicom(file) for file in path.iterdir())


DICOM = VolumeFormat(name="dicom", suffixes=(".dcm",), recognises=_recognises, read=read_dicom)
