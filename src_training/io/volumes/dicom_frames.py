"""Frames of DICOM files: validated geometry from the headers, and pixels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_training.errors import InputError, is_out_of_memory, memory_of
from src_training.io.decoders.base import as_input_error

_HEADER = (
    "SOPClassUID",
    "SeriesInstanceUID",
    "SeriesDescription",
    "ImageType",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
    "RescaleSlope",
    "RescaleIntercept",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)
_TEXTS = ("SOPClassUID", "SeriesInstanceUID", "SeriesDescription", "ImageType")
_COUNTS = {"ImagePositionPatient": 3, "ImageOrientationPatient": 6, "PixelSpacing": 2}
# Tolerance of the lengths of unit vectors, whose components are rounded.
_UNIT = 0.01
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"

# Transfer syntax -> imagecodecs decoder, for those that pydicom cannot decode itself.
_DECODERS = {
    "1.2.840.10008.1.2.4.50": "jpeg8_decode",
    "1.2.840.10008.1.2.4.57": "ljpeg_decode",
    "1.2.840.10008.1.2.4.70": "ljpeg_decode",
    "1.2.840.10008.1.2.4.80": "jpegls_decode",
    "1.2.840.10008.1.2.4.81": "jpegls_decode",
    "1.2.840.10008.1.2.4.90": "jpeg2k_decode",
    "1.2.840.10008.1.2.4.91": "jpeg2k_decode",
}


@dataclass(frozen=True)
class Frame:
    """A plane of a series; lengths in mm, axes LPS.

    Attributes
    ----------
    path, number
        Path of the file, and index of the frame in it.
    size
        Number of rows and columns.
    position
        Centre of the first voxel (x, y, z).
    orientation
        Unit vectors along a row and along a column, (6,).
    spacing
        Distance between rows, and between columns.
    thickness
        Slice thickness; 0 if unknown.
    slope, intercept
        Rescale from stored values to Hounsfield units.
    bits, signed
        Number of bits and signedness of the stored values.
    series
        UID of the series.
    """

    path: Path
    number: int
    size: tuple[int, int]
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, ...]
    thickness: float
    slope: float
    intercept: float
    bits: int
    signed: bool
    series: str

    @property
    def normal(self) -> NDArray[np.float64]:
        """Normal of the plane, (3,)."""
        return np.cross(self.orientation[:3], self.orientation[3:])

    @cached_property
    def along(self) -> float:
        """Position along the normal in mm."""
        return float(np.asarray(self.position) @ self.normal)


def is_dicom(file: Path) -> bool:
    """Whether a file contains ``DICM`` after 128 bytes, and is no DICOMDIR."""
    if not file.is_file() or file.name.upper() == "DICOMDIR":
        return False
    with file.open("rb") as opened:
        return opened.read(132)[128:] == b"DICM"


def read_header(file: Path) -> Any:
    """Read the header fields for `frames_of`; InputError if the file or one of them is broken."""
    from pydicom import dcmread
    from pydicom.datadict import tag_for_keyword

    with as_input_error(file, "a DICOM file"):
        header = dcmread(file, stop_before_pixels=True, specific_tags=list(_HEADER))
    # Looking up a missing field by name takes as long as decoding it.
    present = [name for name in _HEADER if tag_for_keyword(name) in header]
    name = ""
    try:
        with memory_of(file, "a file that fits"):
            for name in present:
                header.get(name)
    except InputError:
        raise
    except Exception:  # pydicom decodes values lazily, and raises errors of many types
        expected = "text" if name in _TEXTS else _count_text(_COUNTS.get(name, 1))
        raise InputError(f"{file} has {name} {_text(header, name)}; expected {expected}") from None
    return header


def frame_count(file: Path, header: Any) -> int:
    """Return the number of frames of a file, which is 1 by default."""
    return _whole(header, "NumberOfFrames", file, 1, 2**31, (1,))


def why_left_out(header: Any) -> str:
    """Return why a file is no slice of a volume, such as ``localizer``; empty if it is one."""
    if header.get("Rows") in (None, "") or header.get("Columns") in (None, ""):
        return "no image"
    if "LOCALIZER" in map(str, _as_list(header.get("ImageType"))):
        return "localizer"
    secondary = str(header.get("SOPClassUID", "")).startswith(_SECONDARY_CAPTURE)
    if secondary and header.get("ImagePositionPatient") in (None, ""):
        return "secondary capture"
    return ""


def frames_of(file: Path, header: Any) -> list[Frame]:
    """Return the frames of a file: one for a slice, several for an enhanced CT or MR.

    Raises
    ------
    InputError
        If the file contains colours, or a field is missing or invalid; the message names file
        and field.
    """
    kind = header.get("PhotometricInterpretation")
    if kind != "MONOCHROME2":
        raise InputError(f"{file} is {kind}; expected MONOCHROME2")
    groups = _as_list(header.get("PerFrameFunctionalGroupsSequence"))
    count = frame_count(file, header)
    if count > 1 and len(groups) != count:
        raise InputError(f"{file} holds {count} frames; expected a file for each slice")
    if not groups:
        return [_frame(file, 0, header, header)]
    shared = _as_list(header.get("SharedFunctionalGroupsSequence"))
    return [
        _frame(file, number, header, _lookup(header, [group, *shared]))
        for number, group in enumerate(groups)
    ]


def _lookup(header: Any, groups: Sequence[Any]) -> Callable[[str], Any]:
    """Return a function that looks up a field in functional groups in order, then in the header."""

    def get(name: str) -> Any:
        for group in groups:
            for item in group:
                for inner in _as_list(item.value):
                    if hasattr(inner, "get") and inner.get(name) is not None:
                        return inner.get(name)
        return header.get(name)

    return get


def _frame(file: Path, number: int, header: Any, geometry: Any) -> Frame:
    fields = {name: _numbers(geometry, name, file, count) for name, count in _COUNTS.items()}
    _check_grid(file, fields["ImageOrientationPatient"], fields["PixelSpacing"])
    (slope,) = _numbers(geometry, "RescaleSlope", file, 1, (1,))
    (intercept,) = _numbers(geometry, "RescaleIntercept", file, 1, (0,))
    _whole(header, "BitsAllocated", file, 1, 64, (16,))
    if slope == 0:
        raise InputError(f"{file} has RescaleSlope 0; expected another number")
    return Frame(
        path=file,
        number=number,
        size=(
            _whole(header, "Rows", file, 1, 2**16),
            _whole(header, "Columns", file, 1, 2**16),
        ),
        position=fields["ImagePositionPatient"],
        orientation=fields["ImageOrientationPatient"],
        spacing=fields["PixelSpacing"],
        thickness=_numbers(geometry, "SliceThickness", file, 1, (0,))[0],
        slope=slope,
        intercept=intercept,
        bits=_whole(header, "BitsStored", file, 1, 32, (16,)),
        signed=_whole(header, "PixelRepresentation", file, 0, 1, (0,)) == 1,
        series=str(header.get("SeriesInstanceUID", "")),
    )


def _check_grid(file: Path, orientation: tuple[float, ...], spacing: tuple[float, ...]) -> None:
    """Raise InputError unless spacings are above 0 and directions have length 1."""
    if min(spacing) <= 0:
        raise InputError(
            f"{file} has PixelSpacing {_format_numbers(spacing)}; expected 2 numbers above 0"
        )
    lengths = np.linalg.norm(np.reshape(orientation, (2, 3)), axis=1)
    if np.abs(lengths - 1).max() > _UNIT:
        raise InputError(
            f"{file} has ImageOrientationPatient {_format_numbers(orientation)}; "
            "expected two directions of length 1"
        )


def _whole(
    header: Any,
    name: str,
    file: Path,
    low: int,
    high: int,
    default: tuple[float, ...] | None = None,
) -> int:
    """Return the integer of a field; InputError unless it is from `low` to `high`."""
    (number,) = _numbers(header, name, file, 1, default)
    if not low <= number <= high or number != int(number):
        raise InputError(f"{file} has {name} {number:g}; expected an integer from {low} to {high}")
    return int(number)


def _count_text(count: int) -> str:
    return f"{count} number{'s' * (count > 1)}"


def _format_numbers(numbers: Sequence[float]) -> str:
    return "\\".join(f"{each:g}" for each in numbers)


def _numbers(
    holder: Any,
    name: str,
    file: Path,
    count: int,
    default: tuple[float, ...] | None = None,
) -> tuple[float, ...]:
    """Return the numbers of a field, or the default if it is missing or empty.

    `holder` is a header, or a function that looks up a field by name.
    """
    expected = _count_text(count)
    try:
        value = holder(name) if callable(holder) else holder.get(name)
        numbers = tuple(float(each) for each in _as_list(value))
    except Exception as error:  # values of a functional group are decoded here
        if is_out_of_memory(error):
            raise
        text = _text(holder, name)
        raise InputError(f"{file} has {name} {text}; expected {expected}") from None
    if not numbers and default is not None:
        return tuple(map(float, default))
    if not numbers:
        raise InputError(f"{file} has no {name}; expected every slice to have its position")
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise InputError(f"{file} has {name} {_format_numbers(numbers)}; expected {expected}")
    return numbers


def _text(holder: Any, name: str) -> str:
    """The raw value of a field as text, if it can be decoded."""
    try:
        raw = holder.get_item(name).value
    except (AttributeError, KeyError, TypeError):
        return "that is no number"
    parts = [
        each.decode("ascii", "replace") if isinstance(each, bytes) else str(each)
        for each in _as_list(raw)
    ]
    return "\\".join(parts).strip(" \0")


def _as_list(value: Any) -> list[Any]:
    """Convert a value of any multiplicity to a list, which is empty for a missing value."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return []
    if isinstance(value, str | bytes) or not hasattr(value, "__iter__"):
        return [value]
    return list(value)


def read_pixels(frame: Frame) -> NDArray[Any]:
    """Decode a frame (rows, columns) and rescale it; InputError if the file is broken."""
    with as_input_error(frame.path, "a whole DICOM slice"):
        pixels = _decode(frame)
        if pixels.shape != frame.size:
            raise ValueError(f"it holds pixels of shape {pixels.shape}")
        return np.asarray(pixels * frame.slope + frame.intercept)


def _decode(frame: Frame) -> NDArray[Any]:
    from pydicom.encaps import get_frame

    data, syntax = _read_file(frame.path, frame.path.stat().st_mtime_ns)
    count = int(data.get("NumberOfFrames") or 1)
    if syntax not in _DECODERS:
        pixels = np.asarray(data.pixel_array)
        return np.asarray(pixels[frame.number]) if count > 1 else pixels
    import imagecodecs

    packed = get_frame(data.PixelData, frame.number, number_of_frames=count)
    pixels = np.asarray(getattr(imagecodecs, _DECODERS[syntax])(packed))
    if frame.signed and pixels.dtype.kind == "u":
        # Sign-extend two's complement numbers of `bits` bits by shifting left and back.
        signed = pixels.astype(np.uint32) << (32 - frame.bits)
        return signed.view(np.int32) >> (32 - frame.bits)
    return pixels


@lru_cache(maxsize=2)
def _read_file(file: Path, _modified: int) -> tuple[Any, str]:
    """Read a file and its transfer syntax; cached, because a file may have many frames."""
    from pydicom import dcmread

    data = dcmread(file)
    return data, str(data.file_meta.TransferSyntaxUID)
