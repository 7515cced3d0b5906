"""Reading and writing images and label masks."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from src_training.errors import InputError
from src_training.io.atomic import write_atomic
from src_training.io.decoders.base import Pixels, as_input_error, file_suffix, without_warnings
from src_training.io.decoders.registry import IMAGE_SUFFIXES, decode, decoded_shape
from src_training.io.decoders.tiff import TIFF_SUFFIXES

__all__ = [
    "IMAGE_SUFFIXES",
    "decode_file",
    "image_files",
    "image_shape",
    "image_size",
    "image_suffix",
    "plain_numbers",
    "read_image",
    "write_image",
    "write_labels",
]

Decoded = TypeVar("Decoded")


def image_files(folder: Path) -> list[Path]:
    """List the image files of a folder by suffix, sorted by name, without hidden ones."""
    return [
        file
        for file in sorted(folder.iterdir())
        if file_suffix(file) in IMAGE_SUFFIXES and not file.name.startswith(".")
    ]


def read_image(path: Path) -> Pixels:
    """Read an image with its stored values.

    Parameters
    ----------
    path
        PNG, JPEG, BMP, GIF, WebP, PPM, TIFF, NPY or zarr, according to the suffix.

    Returns
    -------
    ndarray
        (H, W) or (H, W, C), or a stack (Z, H, W) or (Z, H, W, C),
        of the stored dtype; bool becomes uint8. Alpha is dropped;
        palettes, CMYK and YCbCr are converted to RGB. A TIFF that stores white
        as zero is inverted. The orientation tag of EXIF or TIFF is applied.
        PNG with 16-bit colour is read at 8 bits.

    Raises
    ------
    InputError
        If the file is missing, empty, truncated, of an unknown format or kind
        of number, or holds NaN or infinity.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "photograph.png"
    ...     write_image(path, np.full((4, 6, 3), 200, np.uint8))
    ...     image = read_image(path)
    ...     image.shape, image.dtype, image_size(path)
    ((4, 6, 3), dtype('uint8'), (4, 6))
    """
    path = Path(path)
    pixels = plain_numbers(decode_file(path, partial(decode, labels=False)), path)
    if pixels.ndim not in (2, 3, 4):
        raise InputError(
            f"{path} has shape {pixels.shape}; "
            "expected (H, W), (H, W, C), or a stack of either along one axis"
        )
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        bad = int((~np.isfinite(pixels)).sum())
        raise InputError(f"{path} has {bad} values that are NaN or infinite; expected none")
    return pixels


def image_size(path: Path) -> tuple[int, int]:
    """Return height and width of the image (H, W) or (H, W, C) in a file; see `image_shape`.

    Raises
    ------
    InputError
        See `image_shape`; also if the file contains a stack.
    """
    shape = image_shape(path)
    if len(shape) == 2 or (len(shape) == 3 and shape[-1] in (1, 2, 3, 4)):
        return shape[0], shape[1]
    raise InputError(f"{path} has shape {shape}; expected a single image, (H, W) or (H, W, C)")


def image_shape(path: Path) -> tuple[int, ...]:
    """Return the shape (H, W), (H, W, C) or (Z, H, W) of the image or stack in a file.

    Only the header is read. The shape does not include the channels of PNG, JPEG, BMP, GIF,
    WebP and PPM, nor the colours of a palette.

    Raises
    ------
    InputError
        See `read_image`.
    """
    return decode_file(Path(path), decoded_shape)


def image_suffix(image: Pixels) -> str:
    """Return the suffix for `write_image`: ``.tif`` for HU and floats, else ``.png``."""
    return ".tif" if image.dtype.kind in "if" else ".png"


def write_image(path: Path, image: Pixels) -> None:
    """Write an image with its own values, as PNG or zlib-compressed TIFF, atomically.

    Parameters
    ----------
    path
        File that ends in .png or .tif; see `image_suffix`.
    image
        (H, W) uint8 or uint16, or (H, W, 3) uint8 to .png; (H, W) int16 or
        float32 to .tif.

    Raises
    ------
    InputError
        If the suffix, the shape or the dtype is not supported.
    OSError
        If the file cannot be written; an existing file is then unchanged.
    """
    path = Path(path)
    known = {(2, "u1"), (2, "u2"), (3, "u1"), (2, "i2"), (2, "f4")}
    fits = (image.ndim, image.dtype.str[1:]) in known and image.shape[2:] in ((), (3,))
    if not fits or path.suffix.lower() != image_suffix(image):
        raise InputError(
            f"an image of shape {image.shape} and {image.dtype} cannot be written to {path}; "
            "expected (H, W) uint8 or uint16, or (H, W, 3) uint8, to .png, or (H, W) int16 or "
            "float32 to .tif"
        )
    if path.suffix.lower() == ".png":
        write_atomic(path, lambda to: Image.fromarray(image).save(to))
    else:
        write_atomic(path, lambda to: _write_tiff(to, image))


def write_labels(path: Path, labels: NDArray[Any]) -> None:
    """Write labels as 8-bit PNG, or as zlib-compressed TIFF, atomically.

    Parameters
    ----------
    path
        File that ends in .png, .tif or .tiff.
    labels
        (H, W), or (Z, H, W) for TIFF; bool or integers from 0 to 255.

    Raises
    ------
    InputError
        If the suffix, the shape or a value is not supported.
    OSError
        If the file cannot be written; an existing file is then unchanged.
    """
    path = Path(path)
    if labels.dtype.kind not in "bui" or ((labels < 0) | (labels > 255)).any():
        raise InputError(f"labels for {path} are {_range(labels)}; expected integers from 0 to 255")
    small = labels.astype(np.uint8)
    suffix = path.suffix.lower()
    if suffix == ".png" and labels.ndim == 2:
        write_atomic(path, lambda to: Image.fromarray(small).save(to))
    elif suffix in TIFF_SUFFIXES and labels.ndim in (2, 3):
        write_atomic(path, lambda to: _write_tiff(to, small))
    else:
        raise InputError(
            f"labels of shape {labels.shape} cannot be written to {path}; "
            "expected (H, W) to .png, or (H, W) or (Z, H, W) to .tif"
        )


def _write_tiff(path: Path, pixels: Pixels) -> None:
    tifffile.imwrite(path, pixels, photometric="minisblack", compression="zlib")


def _require(path: Path) -> None:
    suffix = file_suffix(path)
    if suffix not in IMAGE_SUFFIXES:
        known = " ".join(sorted(IMAGE_SUFFIXES))
        raise InputError(f"{path} ends in {suffix or 'no suffix'!r}; expected one of {known}")
    if not path.exists():
        raise InputError(f"{path} does not exist; expected an image file")
    if suffix == ".zarr":
        return
    if not path.is_file():
        found = "a folder" if path.is_dir() else "a pipe or a device"
        raise InputError(f"{path} is {found}; expected an image file")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes); expected an image file")


def decode_file(path: Path, decoder: Callable[[Path], Decoded]) -> Decoded:
    """Check that a file exists, and decode it; InputError if it is missing or broken."""
    _require(path)
    expected = f"a whole {file_suffix(path)} image"
    with without_warnings(), as_input_error(path, expected):
        return decoder(path)


def plain_numbers(pixels: Pixels, path: Path) -> Pixels:
    """Convert to real numbers in native byte order; InputError if impossible or empty."""
    if pixels.dtype.kind == "b":
        pixels = pixels.astype(np.uint8)
    if pixels.dtype.kind not in "uif":
        raise InputError(f"{path} holds {pixels.dtype}; expected integers or floating point")
    if pixels.size == 0:
        raise InputError(f"{path} has shape {pixels.shape}, no pixels; expected at least one")
    return np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("="))


def _range(labels: Pixels) -> str:
    if labels.dtype.kind not in "buif" or labels.size == 0:
        return f"{labels.dtype}"
    return f"{labels.dtype} from {labels.min():g} to {labels.max():g}"
