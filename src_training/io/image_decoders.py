"""Decoders for every image format: Pillow, tifffile, NumPy and zarr behind one door."""

from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from src_training.errors import InputError

Pixels = NDArray[Any]

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif"})
TIFF_SUFFIXES = frozenset({".tif", ".tiff"})
IMAGE_SUFFIXES = PICTURE_SUFFIXES | TIFF_SUFFIXES | {".npy", ".zarr"}

_PICTURE_FORMATS = ("PNG", "JPEG", "BMP", "GIF")
# What tifffile decodes without the large imagecodecs; Pillow reads the others (LZW, JPEG).
_TIFFFILE_DECODES = frozenset(
    {
        tifffile.COMPRESSION.NONE,
        tifffile.COMPRESSION.ADOBE_DEFLATE,
        tifffile.COMPRESSION.DEFLATE,
        tifffile.COMPRESSION.LZMA,
    }
)
_GREY_MODES = frozenset({"1", "L", "I", "I;16", "I;16B", "I;16L", "F"})


def decode(path: Path, labels: bool) -> Pixels:
    """What a file stores, alpha dropped.

    Parameters
    ----------
    labels
        Give palette indices (grey values of a grey palette), not colours.

    Raises
    ------
    Exception
        Of any kind, from the decoders, if the file is broken.
    """
    suffix = path.suffix.lower()
    if suffix in TIFF_SUFFIXES:
        return _read_tiff(path, labels)
    if suffix == ".npy":
        # Mapped first: a short file is found out before its memory is asked for.
        return np.array(np.load(path, mmap_mode="r", allow_pickle=False))
    if suffix == ".zarr":
        return np.asarray(_open_zarr(path)[...])
    return _read_picture(path, _PICTURE_FORMATS, labels)


def decoded_shape(path: Path) -> tuple[int, ...]:
    """Shape of what `decode` would return, from the header alone; raises as it does."""
    suffix = path.suffix.lower()
    if suffix in TIFF_SUFFIXES:
        with tifffile.TiffFile(path) as file:
            series = file.series[0]
            return tuple(series.shape[i] for i in _channels_last(series.axes))
    if suffix == ".npy":
        return tuple(np.load(path, mmap_mode="r", allow_pickle=False).shape)
    if suffix == ".zarr":
        return tuple(_open_zarr(path).shape)
    with Image.open(path, formats=_PICTURE_FORMATS) as picture:
        frames = _frame_count(picture)
        return (frames, picture.height, picture.width)[0 if frames > 1 else 1 :]


def _frame_count(picture: Image.Image) -> int:
    # An MPO is one photograph with its previews; GIF and APNG frames are slices.
    return getattr(picture, "n_frames", 1) if picture.format in ("GIF", "PNG", "TIFF") else 1


def _read_picture(path: Path, formats: tuple[str, ...], labels: bool) -> Pixels:
    with Image.open(path, formats=formats) as picture:
        if _frame_count(picture) == 1:
            return _frame(picture, labels)
        return np.stack([_frame(frame, labels) for frame in ImageSequence.Iterator(picture)])


def _frame(picture: Image.Image, labels: bool) -> Pixels:
    picture.load()
    if picture.mode == "P":
        entries = np.array(picture.getpalette() or [0, 0, 0], np.uint8).reshape(-1, 3)
        palette = np.pad(entries, ((0, 256 - len(entries)), (0, 0)))
        return _resolved(np.asarray(picture), palette, labels)
    if picture.mode in _GREY_MODES:
        return np.asarray(picture)
    if picture.mode in ("LA", "La"):
        return np.asarray(picture)[..., 0]
    # Premultiplied colours have no direct way to RGB.
    whole = picture.convert("RGBA") if picture.mode in ("PA", "RGBa") else picture
    return np.asarray(whole.convert("RGB"))


def _resolved(indices: Pixels, palette: NDArray[np.uint8], labels: bool) -> Pixels:
    """Colours of palette indices; for labels the indices, or grey values of a grey palette.

    GIF masks are seen with white as index 0: a grey palette tells its values, not its order.
    """
    if not labels:
        return np.asarray(palette[indices])
    grey = (palette == palette[:, :1]).all()
    return np.asarray(palette[indices, 0]) if grey else indices


def _read_tiff(path: Path, labels: bool) -> Pixels:
    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        page = series.keyframe
        if page.compression not in _TIFFFILE_DECODES:
            return _read_picture(path, ("TIFF",), labels)
        pixels, axes = series.asarray(), series.axes
        colours = page.colormap if page.photometric == tifffile.PHOTOMETRIC.PALETTE else None
    order = _channels_last(axes)
    pixels, axes = pixels.transpose(order), "".join(axes[i] for i in order)
    if axes[-1] == "S" and pixels.shape[-1] in (2, 4):
        pixels = pixels[..., :-1]
        pixels = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    if colours is not None:
        return _resolved(pixels, (colours.T >> 8).astype(np.uint8), labels)
    return np.asarray(pixels)


def _channels_last(axes: str) -> list[int]:
    return sorted(range(len(axes)), key=lambda i: "CS".find(axes[i]))


def _open_zarr(path: Path) -> Any:
    import zarr  # half a second that only zarr files are worth

    node = zarr.open(store=str(path), mode="r")
    if not isinstance(node, zarr.Array):
        raise InputError(f"{path} is a zarr group; expected a zarr array")
    return node
