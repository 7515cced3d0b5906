"""Decoders of image files: Pillow, tifffile, NumPy and zarr behind one function."""

import gzip
import io
import logging
import math
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageSequence, UnidentifiedImageError

from src_training.errors import InputError

Pixels = NDArray[Any]

PICTURE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".pnm", ".ppm.gz"}
)
TIFF_SUFFIXES = frozenset({".tif", ".tiff"})
IMAGE_SUFFIXES = PICTURE_SUFFIXES | TIFF_SUFFIXES | {".npy", ".zarr"}

NARROWEST = 8
"""Of a grey stack (Z, H, W) the least width: a shorter last axis is one of channels."""

_PICTURE_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "WEBP")
_COLOUR_MODES = {
    tifffile.PHOTOMETRIC.SEPARATED: ("CMYK", 4),
    tifffile.PHOTOMETRIC.YCBCR: ("YCbCr", 3),
}
# The decoders of these turn YCbCr into RGB themselves.
_JPEG = (
    tifffile.COMPRESSION.OJPEG,
    tifffile.COMPRESSION.JPEG,
    tifffile.COMPRESSION.JPEG_LOSSY,
    tifffile.COMPRESSION.ALT_JPEG,
)
_ORIENTATION = 274
# By the orientation tag of EXIF and TIFF: whether to transpose, then to flip rows and columns.
_UPRIGHT = {
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}
_ZARR_METADATA = (".zarray", ".zattrs", ".zgroup", ".zmetadata", "zarr.json")
_GREY_MODES = frozenset({"1", "L", "I", "I;16", "I;16B", "I;16L", "F"})

# What tifffile logs about a broken file, it raises too: one sentence is enough.
_DECODING = ContextVar("decoding", default=False)
logging.getLogger("tifffile").addFilter(lambda _record: not _DECODING.get())


_SILENT = threading.Lock()
_silent_decoders = 0
_silencer = warnings.catch_warnings()


@contextmanager
def without_warnings() -> Iterator[None]:
    """Silence the warnings of decoders, also where several threads read at once.

    `warnings.catch_warnings` alone puts back the filters of whichever thread began first:
    here the first thread that decodes silences, and the last one restores.
    """
    global _silent_decoders, _silencer
    with _SILENT:
        if _silent_decoders == 0:
            _silencer = warnings.catch_warnings()
            _silencer.__enter__()
            warnings.simplefilter("ignore")
        _silent_decoders += 1
    try:
        yield
    finally:
        with _SILENT:
            _silent_decoders -= 1
            if _silent_decoders == 0:
                _silencer.__exit__(None, None, None)


@contextmanager
def as_input_error(what: object, expected: str) -> Iterator[None]:
    """Raise whatever a decoder raises on a broken file as one `InputError`.

    Parameters
    ----------
    what
        The file, as the sentence names it.
    expected
        What it should have been, such as ``a whole .png image``.

    Examples
    --------
    >>> with as_input_error("scan.nii", "a NIfTI file"):
    ...     raise OSError("unexpected end of file")
    Traceback (most recent call last):
        ...
    src_training.errors.InputError: scan.nii cannot be read (unexpected end of file); expected a \
NIfTI file
    """
    decoding = _DECODING.set(True)
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:  # decoders raise anything on a broken file: zlib, struct, Syntax...
        # The key that a decoder looked up in vain says nothing about the file.
        reason = "" if isinstance(error, LookupError) else " ".join(str(error).split())
        raise InputError(
            f"{what} cannot be read ({reason or 'it is broken'}); expected {expected}"
        ) from error
    finally:
        _DECODING.reset(decoding)


def file_suffix(path: Path) -> str:
    """Return the suffix that says how a file is read, in lower case.

    Examples
    --------
    >>> file_suffix(Path("im0001.PPM.gz")), file_suffix(Path("eye.1.PNG"))
    ('.ppm.gz', '.png')
    """
    return ".ppm.gz" if path.name.lower().endswith(".ppm.gz") else path.suffix.lower()


def file_stem(path: Path) -> str:
    """Return the name without the suffix of `file_suffix`."""
    return path.name[: len(path.name) - len(file_suffix(path))]


def decode(path: Path, labels: bool) -> Pixels:
    """Decode a file as it is stored; images without their alpha channel.

    Parameters
    ----------
    path
        Its suffix, one of `IMAGE_SUFFIXES`, chooses the decoder.
    labels
        Return palette indices (grey values where the palette is grey) instead of colours,
        and the alpha channel, if there is one, as the last.

    Raises
    ------
    Exception
        Of any kind, from the decoders, if the file is broken.
    """
    suffix = path.suffix.lower()
    if suffix in TIFF_SUFFIXES:
        return _read_tiff(path, labels)
    if suffix == ".npy":
        # Mapped first, so that a short file fails before memory is allocated for it.
        return np.array(np.load(path, mmap_mode="r", allow_pickle=False))
    if suffix == ".zarr":
        return np.asarray(open_zarr_array(path)[...])
    return _read_picture(path, labels)


def decoded_shape(path: Path) -> tuple[int, ...]:
    """Return the shape of what `decode` returns, from the header alone; raises as it does."""
    suffix = path.suffix.lower()
    if suffix in TIFF_SUFFIXES:
        with tifffile.TiffFile(path) as file:
            series = file.series[0]
            order = _channels_last(series.axes)
            shape = [series.shape[axis] for axis in order]
            if _UPRIGHT.get(tiff_orientation(series.keyframe), (False,))[0]:
                rows = [series.axes[axis] for axis in order].index("Y")
                shape[rows : rows + 2] = shape[rows + 1], shape[rows]
            return (*shape[:-1], *_colour_axis(series.axes, shape[-1]))
    if suffix == ".npy":
        return tuple(np.load(path, mmap_mode="r", allow_pickle=False).shape)
    if suffix == ".zarr":
        return tuple(open_zarr_array(path).shape)
    with _open_picture(path) as picture:
        frames = _frame_count(picture)
        height, width = picture.height, picture.width
        if _UPRIGHT.get(_orientation(picture), (False,))[0]:
            height, width = width, height
        return (frames, height, width)[0 if frames > 1 else 1 :]


def series_notes(path: Path) -> tuple[str, ...]:
    """Return what of a TIFF of several images is not read: all but the first."""
    if path.suffix.lower() not in TIFF_SUFFIXES:
        return ()
    with without_warnings(), as_input_error(path, "a whole TIFF"), tifffile.TiffFile(path) as file:
        series = file.series
        if len(series) < 2:
            return ()
        sizes = " and ".join(" × ".join(map(str, each.shape)) for each in series[:3])
        more = f" and {len(series) - 3} more" if len(series) > 3 else ""
        return (f"{path.name} holds {len(series)} images ({sizes}{more}); the first is read",)


def open_zarr_array(path: Path, within: str = "") -> Any:
    """Open a zarr array, whose blosc chunks are measured before they are decoded.

    Blosc has no checksum, and its decoder reads beyond the end of a truncated
    chunk without an error.

    Parameters
    ----------
    path
        Folder of the store.
    within
        Path of the array in that store.

    Raises
    ------
    InputError
        If there is a group at that place; when read, if a chunk is truncated.
    """
    import zarr  # half a second that only zarr files need

    node = zarr.open(store=str(path), path=within, mode="r")
    if not isinstance(node, zarr.Array):
        raise InputError(f"{path} is a zarr group; expected a zarr array")
    outermost = "".join(type(codec).__name__ for codec in node.compressors[-1:])
    if "blosc" not in outermost.lower() or node.shards is not None:
        return node
    return zarr.open_array(store=_blosc_store(path), path=within, mode="r")


def _blosc_store(path: Path) -> Any:
    from zarr.storage import LocalStore

    class BloscStore(LocalStore):  # type: ignore[misc] # zarr is imported without its types
        async def get(self, key: str, *arguments: Any, **options: Any) -> Any:
            value = await super().get(key, *arguments, **options)
            if value is not None and key.rpartition("/")[2] not in _ZARR_METADATA:
                # A chunk's header of 16 bytes ends in the size of the whole chunk.
                header = value[:16].to_bytes()
                whole = max(16, int.from_bytes(header[12:], "little"))
                if len(value) != whole:
                    raise InputError(
                        f"{path / key} is a truncated chunk: {len(value)} of {whole} bytes; "
                        "expected all of them"
                    )
            return value

    return BloscStore(path, read_only=True)


def black_is_zero(pixels: Pixels, page: Any) -> Pixels:
    """Return the pixels of a TIFF page with high values bright.

    Where the page stores white as zero (MINISWHITE), booleans and unsigned
    integers are inverted, as every viewer does; other numbers stay.
    """
    if page.photometric != tifffile.PHOTOMETRIC.MINISWHITE or pixels.dtype.kind not in "bu":
        return pixels
    highest = True if pixels.dtype.kind == "b" else 2**page.bitspersample - 1
    return np.asarray(pixels ^ pixels.dtype.type(highest))


def tiff_orientation(page: Any) -> int:
    """Return the orientation tag of a TIFF page, 1 where there is none."""
    tag = page.tags.get(_ORIENTATION)
    return int(tag.value) if tag is not None else 1


def _orientation(picture: Image.Image) -> int:
    return int(picture.getexif().get(_ORIENTATION, 1))


def upright(pixels: Pixels, orientation: int, rows: int = 0) -> Pixels:
    """Turn and mirror pixels as their orientation tag says, as every viewer does.

    Parameters
    ----------
    pixels
        Its axes `rows` and `rows` + 1 are rows and columns.
    orientation
        Of EXIF and TIFF, 1 to 8; others change nothing.
    rows
        See `pixels`.
    """
    transpose, flip_rows, flip_columns = _UPRIGHT.get(orientation, (False, False, False))
    turned = np.swapaxes(pixels, rows, rows + 1) if transpose else pixels
    flipped = [axis for axis, flip in ((rows, flip_rows), (rows + 1, flip_columns)) if flip]
    return np.asarray(np.flip(turned, tuple(flipped))) if flipped else turned


def _read_tiff(path: Path, labels: bool) -> Pixels:
    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        page = series.keyframe
        size = page.imagelength, page.imagewidth
        _require_memory(path, size, series.size, series.dtype.itemsize)
        pixels, axes = series.asarray(), series.axes
    order = _channels_last(axes)
    rows = [axes[axis] for axis in order].index("Y") if "Y" in axes else 0
    pixels = black_is_zero(pixels.transpose(order), page)
    pixels = upright(pixels, tiff_orientation(page), rows)
    if axes[order[-1]] == "S":
        pixels = _as_grey_or_rgb(pixels, page, path, labels)
    if page.photometric == tifffile.PHOTOMETRIC.PALETTE and page.colormap is not None:
        return _resolve_palette(pixels, (page.colormap.T >> 8).astype(np.uint8), labels)
    return pixels


def _channels_last(axes: str) -> list[int]:
    return sorted(range(len(axes)), key=lambda axis: "CS".find(axes[axis]))


def _colour_axis(axes: str, length: int) -> tuple[int, ...]:
    """Return the last axis after decoding: none for grey with alpha, 3 for RGBA and CMYK."""
    if "S" not in axes or length not in (2, 4):
        return (length,)
    return (3,) if length == 4 else ()


def _as_grey_or_rgb(samples: Pixels, page: Any, path: Path, alpha: bool) -> Pixels:
    """Return grey (...) or RGB (..., 3) of the samples (..., S) of a page, or both with alpha."""
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


def _open_picture(path: Path) -> Image.Image:
    """Open a picture of any size.

    `PIL.Image.open` refuses large ones by a limit that belongs to the whole process, and other
    plugins may rely on it: what decides here is the memory that is free.
    """
    Image.preinit()
    import_module("PIL.WebPImagePlugin")  # not among the formats of `preinit`
    packed = file_suffix(path) == ".ppm.gz"
    with gzip.open(path) if packed else path.open("rb") as file:
        prefix = file.read(16)
        file.seek(0)
        source: Any = io.BytesIO(file.read()) if packed else str(path)
    for name in _PICTURE_FORMATS:
        factory, accept = Image.OPEN[name]
        if accept is None or accept(prefix) is True:
            return factory(source, str(path))
    raise UnidentifiedImageError(f"cannot identify image file {str(path)!r}")


def _require_memory(path: Path, size: tuple[int, int], numbers: int, itemsize: int) -> None:
    """Raise InputError if `numbers` of an image (H, W) need more memory than is free.

    Twice: as the decoder has them, and as an array.
    """
    needed, free = 2 * itemsize * numbers, psutil.virtual_memory().available
    if needed > free:
        raise InputError(
            f"{path} is {size[1]} × {size[0]} px (w × h) and takes about {needed / 1e9:.1f} GB of "
            f"memory to read, of which {free / 1e9:.1f} GB are free; expected an image that fits"
        )


def _frame_count(picture: Image.Image) -> int:
    # An MPO is one photograph with its previews; GIF and APNG frames are slices.
    return getattr(picture, "n_frames", 1) if picture.format in ("GIF", "PNG", "WEBP") else 1


def _read_picture(path: Path, labels: bool) -> Pixels:
    with _open_picture(path) as picture:
        numbers = math.prod(picture.size) * _frame_count(picture) * len(picture.getbands())
        depth = 4 if picture.mode in ("I", "F", "P") else 2
        _require_memory(path, (picture.height, picture.width), numbers, depth)
        if _frame_count(picture) == 1:
            return upright(_frame(picture, labels), _orientation(picture))
        return np.stack([_frame(frame, labels) for frame in ImageSequence.Iterator(picture)])


def _frame(picture: Image.Image, labels: bool) -> Pixels:
    picture.load()
    if picture.mode == "P":
        entries = np.array(picture.getpalette() or [0, 0, 0], np.uint8).reshape(-1, 3)
        palette = np.pad(entries, ((0, 256 - len(entries)), (0, 0)))
        return _resolve_palette(np.asarray(picture), palette, labels)
    if picture.mode in _GREY_MODES:
        return np.asarray(picture)
    if picture.mode in ("LA", "La"):
        return np.asarray(picture)[..., slice(None) if labels else 0]
    # Premultiplied colours have no direct way to RGB.
    whole = picture.convert("RGBA") if picture.mode in ("PA", "RGBa") else picture
    if labels and whole.mode == "RGBA":
        return np.asarray(whole)
    return np.asarray(whole.convert("RGB"))


def _resolve_palette(indices: Pixels, palette: NDArray[np.uint8], labels: bool) -> Pixels:
    """Return colours of palette indices; for labels the indices, or grey values of a grey palette.

    GIF masks exist whose index 0 is white: the values of a grey palette count, not its order.
    """
    if not labels:
        return np.asarray(palette[indices])
    grey = (palette == palette[:, :1]).all()
    return np.asarray(palette[indices, 0]) if grey else indices
