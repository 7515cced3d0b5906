"""TIFF files, decoded by tifffile."""

from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from src_training.errors import InputError
from src_training.io.decoders.base import (
    ORIENTATION_TAG,
    Pixels,
    as_input_error,
    is_turned,
    require_memory,
    resolve_palette,
    upright,
    without_warnings,
)
from src_training.io.volumes.grid import format_size

TIFF_SUFFIXES = frozenset({".tif", ".tiff"})

_COLOUR_MODES = {
    tifffile.PHOTOMETRIC.SEPARATED: ("CMYK", 4),
    tifffile.PHOTOMETRIC.YCBCR: ("YCbCr", 3),
}
# The decoders of these compressions convert YCbCr to RGB themselves.
_JPEG = (
    tifffile.COMPRESSION.OJPEG,
    tifffile.COMPRESSION.JPEG,
    tifffile.COMPRESSION.JPEG_LOSSY,
    tifffile.COMPRESSION.ALT_JPEG,
)


def read_tiff(path: Path, labels: bool) -> Pixels:
    """Decode the main image of a TIFF (see `main_series`); see `decode` for parameters."""
    with tifffile.TiffFile(path) as file:
        series = main_series(file)
        page = series.keyframe
        size = page.imagelength, page.imagewidth
        require_memory(path, format_size(size), series.size, series.dtype.itemsize)
        pixels, axes = series.asarray(), series.axes
    order = _channels_last(axes)
    rows = [axes[axis] for axis in order].index("Y") if "Y" in axes else 0
    pixels = black_is_zero(pixels.transpose(order), page)
    pixels = upright(pixels, tiff_orientation(page), rows)
    if axes[order[-1]] == "S":
        pixels = _as_grey_or_rgb(pixels, page, path, labels)
    if page.photometric == tifffile.PHOTOMETRIC.PALETTE and page.colormap is not None:
        return resolve_palette(pixels, (page.colormap.T >> 8).astype(np.uint8), labels)
    return pixels


def tiff_shape(path: Path) -> tuple[int, ...]:
    """Return the shape of the result of `read_tiff` from the header alone."""
    with tifffile.TiffFile(path) as file:
        series = main_series(file)
        order = _channels_last(series.axes)
        shape = [series.shape[axis] for axis in order]
        if is_turned(tiff_orientation(series.keyframe)):
            rows = [series.axes[axis] for axis in order].index("Y")
            shape[rows : rows + 2] = shape[rows + 1], shape[rows]
        return (*shape[:-1], *_colour_axis(series.axes, shape[-1]))


def main_series(file: tifffile.TiffFile) -> Any:
    """Return the first series that is not marked as a preview of reduced resolution."""
    full = (series for series in file.series if not series.keyframe.is_reduced)
    return next(full, file.series[0])


def series_notes(path: Path) -> tuple[str, ...]:
    """Return a note on which of several images of a TIFF is read; empty for other files."""
    if path.suffix.lower() not in TIFF_SUFFIXES:
        return ()
    with without_warnings(), as_input_error(path, "a whole TIFF"), tifffile.TiffFile(path) as file:
        series = file.series
        if len(series) < 2:
            return ()
        number = series.index(main_series(file)) + 1
        sizes = " and ".join(" × ".join(map(str, each.shape)) for each in series[:3])
        more = f" and {len(series) - 3} more" if len(series) > 3 else ""
        return (f"{path.name} holds {len(series)} images ({sizes}{more}); number {number} is read",)


def black_is_zero(pixels: Pixels, page: Any) -> Pixels:
    """Return the pixels of a TIFF page with high values bright.

    If the page stores white as zero (MINISWHITE), booleans and unsigned
    integers are inverted, as viewers do; other dtypes do not change.
    """
    if page.photometric != tifffile.PHOTOMETRIC.MINISWHITE or pixels.dtype.kind not in "bu":
        return pixels
    highest = True if pixels.dtype.kind == "b" else 2**page.bitspersample - 1
    return np.asarray(pixels ^ pixels.dtype.type(highest))


def tiff_orientation(page: Any) -> int:
    """Return the orientation tag of a TIFF page; 1 if there is none."""
    tag = page.tags.get(ORIENTATION_TAG)
    return int(tag.value) if tag is not None else 1


def _channels_last(axes: str) -> list[int]:
    return sorted(range(len(axes)), key=lambda axis: "CS".find(axes[axis]))


def _colour_axis(axes: str, length: int) -> tuple[int, ...]:
    """Return the last axis after decoding: no axis for grey with alpha, 3 for RGBA and CMYK."""
    if "S" not in axes or length not in (2, 4):
        return (length,)
    return (3,) if length == 4 else ()


def _as_grey_or_rgb(samples: Pixels, page: Any, path: Path, alpha: bool) -> Pixels:
    """Convert samples (..., S) of a page to grey (...) or RGB (..., 3), optionally with alpha."""
    mode, bands = _COLOUR_MODES.get(page.photometric, ("", 0))
    if mode == "CMYK" or (mode == "YCbCr" and page.compression not in _JPEG):
        if samples.dtype != np.uint8 or samples.shape[-1] != bands:
            raise InputError(
                f"{path} holds {mode} as {samples.shape[-1]} channels of {samples.dtype}; "
                f"expected {bands} channels of uint8, or RGB"
            )
        height, width = int(np.prod(samples.shape[:-2])), samples.shape[-2]
        picture = Image.frombytes(mode, (width, height), samples.tobytes())
        return np.asarray(picture.convert("RGB")).reshape(*samples.shape[:-1], 3)
    if alpha:
        return samples
    if samples.shape[-1] == 2:
        return np.asarray(samples[..., 0])
    return np.asarray(samples[..., :3]) if samples.shape[-1] == 4 else samples
