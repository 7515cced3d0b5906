"""PNG, JPEG and other formats, decoded by Pillow."""

import gzip
import io
import math
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageSequence, PpmImagePlugin, UnidentifiedImageError

from src_training.io.decoders.base import (
    ORIENTATION_TAG,
    Pixels,
    file_suffix,
    is_turned,
    require_memory,
    resolve_palette,
    upright,
)
from src_training.io.volumes.grid import format_size

PICTURE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".pnm", ".ppm.gz"}
)

_PICTURE_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "WEBP")
_MAX_HEADER = 4096
"""Maximum size of the header of a PPM in bytes."""

_GREY_MODES = frozenset({"1", "L", "I", "I;16", "I;16B", "I;16L", "F"})


def read_picture(path: Path, labels: bool) -> Pixels:
    """Decode a picture; see `decode` for parameters. Frames of a GIF, PNG or WebP are slices."""
    with _open_picture(path) as picture:
        numbers = math.prod(picture.size) * _frame_count(picture) * len(picture.getbands())
        depth = 4 if picture.mode in ("I", "F", "P") else 2
        size = format_size((picture.height, picture.width))
        require_memory(path, size, numbers, depth)
        if _frame_count(picture) == 1:
            return upright(_frame(picture, labels), _orientation(picture))
        return np.stack([_frame(frame, labels) for frame in ImageSequence.Iterator(picture)])


def picture_shape(path: Path) -> tuple[int, ...]:
    """Return the size of the result of `read_picture` from the header alone."""
    with _open_picture(path) as picture:
        frames = _frame_count(picture)
        height, width = picture.height, picture.width
        if is_turned(_orientation(picture)):
            height, width = width, height
        return (frames, height, width)[0 if frames > 1 else 1 :]


def _open_picture(path: Path) -> Image.Image:
    """Open a picture of any size.

    `PIL.Image.open` refuses large pictures by a limit of the whole process, which other
    plugins may rely on. Here `require_memory` checks the free memory instead.
    """
    Image.preinit()
    import_module("PIL.WebPImagePlugin")  # not among the formats of `preinit`
    packed = file_suffix(path) == ".ppm.gz"
    with gzip.open(path) if packed else path.open("rb") as file:
        prefix = file.read(_MAX_HEADER if packed else 16)
        source: Any = str(path)
        if packed:
            # A small file can expand to any size, so read only as much as its header declares.
            source = io.BytesIO(prefix + file.read(_packed_bytes(prefix, path) - len(prefix)))
    for name in _PICTURE_FORMATS:
        factory, accept = Image.OPEN[name]
        if accept is None or accept(prefix) is True:
            return factory(source, str(path))
    raise UnidentifiedImageError(f"cannot identify image file {str(path)!r}")


def _packed_bytes(prefix: bytes, path: Path) -> int:
    """Maximum size of an unpacked PPM; a number takes up to six characters and a blank."""
    picture = PpmImagePlugin.PpmImageFile(io.BytesIO(prefix), str(path))
    numbers = math.prod(picture.size) * len(picture.getbands())
    require_memory(path, format_size((picture.height, picture.width)), numbers, 2)
    return _MAX_HEADER + 7 * numbers


def _orientation(picture: Image.Image) -> int:
    return int(picture.getexif().get(ORIENTATION_TAG, 1))


def _frame_count(picture: Image.Image) -> int:
    # An MPO is a single photograph with previews; frames of GIF, APNG and WebP are slices.
    return getattr(picture, "n_frames", 1) if picture.format in ("GIF", "PNG", "WEBP") else 1


def _frame(picture: Image.Image, labels: bool) -> Pixels:
    picture.load()
    if picture.mode == "P":
        entries = np.array(picture.getpalette() or [0, 0, 0], np.uint8).reshape(-1, 3)
        palette = np.pad(entries, ((0, 256 - len(entries)), (0, 0)))
        return resolve_palette(np.asarray(picture), palette, labels)
    if picture.mode in _GREY_MODES:
        return np.asarray(picture)
    if picture.mode in ("LA", "La"):
        return np.asarray(picture)[..., slice(None) if labels else 0]
    # Pillow cannot convert these modes to RGB directly.
    converted = picture.convert("RGBA") if picture.mode in ("PA", "RGBa") else picture
    if labels and converted.mode == "RGBA":
        return np.asarray(converted)
    return np.asarray(converted.convert("RGB"))
