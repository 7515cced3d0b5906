"""Reading masks: extracting the labels from a file, and analysing their values."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy import ndimage

from src_training.errors import InputError, memory_of
from src_training.io.decoders.base import Pixels, as_input_error, without_warnings
from src_training.io.decoders.registry import decode
from src_training.io.decoders.tiff import TIFF_SUFFIXES
from src_training.io.images import decode_file, plain_numbers

_LOSSY = frozenset({".jpg", ".jpeg"})
_LOSSY_TIFF = frozenset({6, 7, 33007, 34892, 50002})
"""TIFF compressions of JPEG and JPEG XL."""

_BINS = 256
"""Number of distinct fractions above which they are binned."""

_COLOURS = 5
"""Maximum number of colours that an error lists."""

_GREY = 16
"""Maximum difference of channels at which a lossy file is grey."""

_ZONE, _NOISE = 1 / 8, 1 / 32
"""Distance to one of two values, as a share of their difference, that may be noise: with many
distinct values, and with few."""

_EDGE, _BLOCK = 7, 17
"""Width in pixels of the neighbourhood of an edge, and of the JPEG blocks next to it."""

_UNCLEAR = 0.1
"""Maximum share of marked pixels that are neither noise nor edges in a mask of two values."""


@dataclass(frozen=True)
class MaskValues:
    """The distinct values of a mask, and their numbers of pixels.

    Attributes
    ----------
    values, counts
        Distinct values, ascending, and number of pixels of each. Many fractions are binned, into
        the lowest, the highest, and the centres of bins between them.
    lossy
        Whether the compression of the file changes values.
    part
        Part of the file that contains the labels, such as ``alpha channel``; empty for grey values.
    """

    values: tuple[float, ...]
    counts: tuple[int, ...]
    lossy: bool = False
    part: str = ""

    @classmethod
    def of(cls, labels: NDArray[Any], lossy: bool = False, part: str = "") -> "MaskValues":
        """Count the distinct values of an array.

        Examples
        --------
        >>> MaskValues.of(np.eye(3, dtype=np.uint8))
        MaskValues(values=(0, 1), counts=(6, 3), lossy=False, part='')
        """
        if labels.dtype.kind == "b" or labels.dtype in (np.uint8, np.uint16):
            table = np.bincount(labels.ravel())
            values, counts = np.flatnonzero(table), table[table > 0]
        else:
            values, counts = np.unique(labels, return_counts=True)
        if values.dtype.kind == "f" and len(values) > _BINS:
            counts, edges = np.histogram(labels, _BINS)
            values = (edges[1:] + edges[:-1]) / 2
            values[0], values[-1] = edges[0], edges[-1]
            values, counts = values[counts > 0], counts[counts > 0]
        return cls(tuple(values.tolist()), tuple(counts.tolist()), lossy, part)


def read_mask(path: Path) -> NDArray[Any]:
    """Read the labels of a mask file as they are stored.

    Parameters
    ----------
    path
        See `read_image`.

    Returns
    -------
    ndarray
        (H, W) or (Z, H, W): grey values, or the indices of a coloured palette; whole
        numbers as integers. A colour file with equal channels is grey; one of black
        and a single other colour becomes 0 and 1. The alpha channel contains the labels if all
        colours are the same.

    Raises
    ------
    InputError
        See `read_image`; also if there are several colours, or if both colours and alpha
        channel contain labels.

    Examples
    --------
    >>> import tempfile
    >>> from src_training.io.images import write_labels
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "mask.png"
    ...     write_labels(path, np.eye(2, dtype=bool))
    ...     read_mask(path).tolist()
    [[1, 0], [0, 1]]
    """
    return _read_part(path)[0]


def read_mask_values(path: Path) -> tuple[NDArray[Any], MaskValues]:
    """Read the labels of a mask file, and count their values; see `read_mask`."""
    with memory_of(path, "a smaller mask"):
        labels, part = _read_part(path)
        return labels, MaskValues.of(labels, is_lossy(path), part)


def is_lossy(path: Path) -> bool:
    """Whether the compression of a file changes pixel values."""
    suffix = path.suffix.lower()
    if suffix in TIFF_SUFFIXES:
        expected = "a whole TIFF"
        with without_warnings(), as_input_error(path, expected), tifffile.TiffFile(path) as file:
            return bool(file.pages.first.compression in _LOSSY_TIFF)
    if suffix == ".webp":
        with path.open("rb") as stored:
            return b"VP8L" not in stored.read(64)
    return suffix in _LOSSY


def field_of_view(stored: NDArray[Any]) -> NDArray[np.bool_]:
    """Binarise a stored field of view.

    With two values, these are the pixels that are not 0; with more, as from compression or grey
    edges, the pixels above half of the highest value.
    """
    highest = stored.max()
    two_values = ((stored == 0) | (stored == highest)).all()
    return np.asarray(stored != 0 if two_values else stored > highest / 2)


def _read_part(path: Path) -> tuple[NDArray[Any], str]:
    path = Path(path)
    stored = plain_numbers(decode_file(path, partial(decode, labels=True)), path)
    labels, part = stored, ""
    if stored.ndim in (3, 4) and stored.shape[-1] in (2, 3, 4):
        labels, part = one_channel(stored, path, is_lossy(path))
    if labels.ndim not in (2, 3):
        raise InputError(
            f"{path} has shape {labels.shape}; "
            "expected a mask (H, W), or a stack (Z, H, W), of one value per pixel"
        )
    return (_numbers(labels, path) if labels.dtype.kind == "f" else labels), part


def one_channel(stored: Pixels, path: object, lossy: bool = False) -> tuple[Pixels, str]:
    """Reduce grey or colour channels (..., C), perhaps with alpha, to one channel of labels.

    Parameters
    ----------
    stored
        Pixels with C = 2 (grey and alpha), 3 or 4.
    path
        Name of the file for errors.
    lossy
        Whether nearly equal channels count as grey.

    Returns
    -------
    ndarray
        The labels.
    str
        The part of the file that they are from; see `MaskValues.part`.

    Raises
    ------
    InputError
        If there are several colours, or both colours and alpha contain labels.
    """
    bands = stored.shape[-1]
    colours, alpha = (stored, None) if bands == 3 else (stored[..., :-1], stored[..., -1])
    if alpha is not None and alpha.min() != alpha.max():
        if (colours == colours.reshape(-1, bands - 1)[0]).all():
            return np.ascontiguousarray(alpha), "alpha channel"
        hidden = int(((alpha == 0) & (colours != 0).any(-1)).sum())
        if hidden:
            raise InputError(
                f"{path} holds values in its colors and others in its alpha channel ({hidden:,} "
                "transparent pixels are not black); expected labels in one of them"
            )
    difference = int(np.ptp(colours, axis=-1).max()) if colours.shape[-1] > 1 else 0
    if difference == 0:
        return np.ascontiguousarray(colours[..., 0]), ""
    if lossy and difference <= _GREY:
        return colours.mean(-1).round().astype(stored.dtype), ""
    marked = (colours != 0).any(-1)
    first = colours[marked][0]
    if (colours[marked] == first).all() and not marked.all():
        return marked.astype(np.uint8), f"color {_format_colour(first)}"
    raise InputError(
        f"{path} is a mask of {_count_colours(colours)}; expected one number per pixel: "
        "0 for background, and 1, 2, 3… for the classes"
    )


def _format_colour(colour: Sequence[Any] | Pixels) -> str:
    return f"({', '.join(f'{value:g}' for value in colour)})"


def _count_colours(colours: Pixels) -> str:
    """Text such as ``3 colors: (0, 0, 0) 900 px, (255, 0, 0) 50 px, …``, most frequent first."""
    unique, counts = np.unique(colours.reshape(-1, colours.shape[-1]), axis=0, return_counts=True)
    most = np.argsort(-counts, kind="stable")[:_COLOURS]
    listed = ", ".join(f"{_format_colour(unique[i])} {counts[i]:,} px" for i in most)
    return f"{len(unique):,} colors: {listed}{', …' if len(unique) > _COLOURS else ''}"


def _numbers(labels: Pixels, path: Path) -> NDArray[Any]:
    """Convert whole floats to int32, keep fractions; InputError for NaN and large values."""
    if not np.isfinite(labels).all():
        raise InputError(f"{path} has values that are NaN or infinite; expected labels")
    if np.abs(labels).max() >= 2**31:
        raise InputError(
            f"{path} holds {labels.dtype} from {labels.min():g} to {labels.max():g}; "
            "expected labels"
        )
    rounded = np.round(labels)
    return rounded.astype(np.int32) if (rounded == labels).all() else labels


def is_two_valued(labels: NDArray[Any], low: float, high: float, many: bool) -> bool:
    """Whether all values between two values are edges, or noise near edges.

    A value between them that covers an area is a class of its own.

    Parameters
    ----------
    labels
        (H, W) or (Z, H, W).
    low, high
        The two values, which are those of all masks of a domain.
    many
        Whether more noise is allowed, because there are too many values for classes, or the
        compression is lossy.
    """
    zone, noise = (_ZONE, _NOISE) if many else (_NOISE, 0.0)
    marked = unclear = edges = off = highs = 0
    for plane in _planes(labels):
        share = (plane.astype(np.float32) - low) / (high - low)
        dark, bright = share <= zone, share >= 1 - zone
        between = ~(dark | bright)
        dim, pale = dark & (share > noise), bright & (share < 1 - noise)
        beside = _grow(dark, _EDGE) & _grow(bright, _EDGE)
        unclear += int((between & ~beside).sum())
        unclear += int((dim & ~_grow(bright, _BLOCK)).sum())
        unclear += int((pale & ~_grow(dark, _BLOCK)).sum())
        marked += int((share > noise).sum())
        edges, off, highs = (
            edges + int(between.sum()),
            off + int(dim.sum()),
            highs + int(bright.sum()),
        )
    if highs == 0:
        # Without edges there is no noise near them, so intermediate values are other labels.
        is_integer = labels.dtype.kind in "bui"
        return labels.max() <= low if is_integer else marked == 0
    rims, blocks = (3, 8) if many else (1, 2)
    return unclear <= _UNCLEAR * marked and edges <= rims * highs and off <= blocks * highs


def _grow(region: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    grown: NDArray[np.bool_] = ndimage.maximum_filter(region, size)
    return grown


def is_piecewise_constant(labels: NDArray[Any]) -> bool:
    """Whether neighbouring pixels mostly have the same value, as in labels but not in images."""
    left, right = labels[..., :-1], labels[..., 1:]
    marked = (left != 0) | (right != 0)
    return bool((left == right)[marked].mean() >= 0.6) if marked.any() else True


def object_centers(labels: NDArray[np.integer]) -> dict[int, tuple[float, ...]] | None:
    """Return value -> relative centre of its region, for every value except 0.

    None if a value has several regions, or one that is wider than half the image.
    """
    centers = dict[int, tuple[float, ...]]()
    connected = np.ones((3,) * labels.ndim, int)
    for index, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        region = labels[box] == index
        sizes = np.bincount(ndimage.label(region, connected)[0].ravel())[1:]
        (height, width), size = region.shape[-2:], labels.shape[-2:]
        if 2 * height > size[0] or 2 * width > size[1] or sizes.max() < 0.95 * sizes.sum():
            return None
        middle = ndimage.center_of_mass(region)
        centers[index] = tuple(
            float((at + part.start) / side)
            for at, part, side in zip(middle, box, labels.shape, strict=True)
        )
    return centers


def _planes(labels: NDArray[Any]) -> Iterator[NDArray[Any]]:
    yield from labels if labels.ndim == 3 else [labels]
