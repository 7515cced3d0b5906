"""Reading masks: which numbers of a file are its labels, and how they are spread."""

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
"""Compressions of a TIFF by JPEG and JPEG XL."""

_BINS = 256
_COLOURS = 5
_GREY = 16
"""Differences of channels up to which a lossy file is grey."""

_ZONE, _NOISE = 1 / 8, 1 / 32
_EDGE, _BLOCK = 7, 17
_UNCLEAR = 0.1


@dataclass(frozen=True)
class MaskValues:
    """Numbers of a mask and how many pixels have each.

    Attributes
    ----------
    values, counts
        Distinct numbers, rising, and pixels of each. Of many fractions the lowest, the
        highest, and the middles of bins between them.
    lossy
        Whether the file's compression changes numbers.
    part
        Where in the file they are, if not in its grey values: such as ``alpha channel``.
    """

    values: tuple[float, ...]
    counts: tuple[int, ...]
    lossy: bool = False
    part: str = ""

    @classmethod
    def of(cls, labels: NDArray[Any], lossy: bool = False, part: str = "") -> "MaskValues":
        """Count the numbers of an array.

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
        As for `read_image`.

    Returns
    -------
    ndarray
        (H, W) or (Z, H, W): grey values, or the indices of a coloured palette; whole
        numbers as integers. A colour file whose channels are equal is grey; one of black
        and one other colour is 0 and 1. The alpha channel counts where the colours hold
        one value.

    Raises
    ------
    InputError
        As `read_image`; also if there are several colours, or if colours and alpha
        channel both hold labels.

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
    """Read the labels of a mask file with their counts; further as `read_mask`."""
    with memory_of(path, "a smaller mask"):
        labels, part = _read_part(path)
        return labels, MaskValues.of(labels, is_lossy(path), part)


def is_lossy(path: Path) -> bool:
    """Whether a file's format changes the numbers that are stored in it."""
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
    """Return where a field of view is: of two values the pixels that are not 0.

    Of more values, as compression and grey edges make them, those above half of the highest.
    """
    highest = stored.max()
    two = ((stored == 0) | (stored == highest)).all()
    return np.asarray(stored != 0 if two else stored > highest / 2)


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
    """Return the labels of grey or colours (..., C), perhaps with alpha, and where they are.

    Parameters
    ----------
    stored
        C is 2 (grey and alpha), 3 or 4.
    path
        The file, as sentences name it.
    lossy
        Whether channels that are nearly equal are grey.

    Raises
    ------
    InputError
        If there are several colours, or colours and alpha both hold labels.
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
    """Such as ``3 colors: (0, 0, 0) 900 px, (255, 0, 0) 50 px, …``, the most frequent first."""
    found, counts = np.unique(colours.reshape(-1, colours.shape[-1]), axis=0, return_counts=True)
    most = np.argsort(-counts, kind="stable")[:_COLOURS]
    listed = ", ".join(f"{_format_colour(found[i])} {counts[i]:,} px" for i in most)
    return f"{len(found):,} colors: {listed}{', …' if len(found) > _COLOURS else ''}"


def _numbers(labels: Pixels, path: Path) -> NDArray[Any]:
    """Whole numbers as int32, fractions as they are; InputError for NaN and what is too large."""
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
    """Whether all that lies between two values is noise beside edges, or an edge itself.

    A value between them that covers an area is a class of its own.

    Parameters
    ----------
    labels
        (H, W) or (Z, H, W).
    low, high
        Of all masks that are read alike.
    many
        Whether there are so many values that they are no classes, or a lossy
        compression made them: noise may then be larger.
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
        # Without an edge there is no noise: low numbers alone are other labels.
        whole = labels.dtype.kind in "bui"
        return labels.max() <= low if whole else marked == 0
    rims, blocks = (3, 8) if many else (1, 2)
    return unclear <= _UNCLEAR * marked and edges <= rims * highs and off <= blocks * highs


def _grow(region: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    grown: NDArray[np.bool_] = ndimage.maximum_filter(region, size)
    return grown


def is_piecewise_constant(labels: NDArray[Any]) -> bool:
    """Whether neighbours mostly have one value, as in labels and not in pictures."""
    left, right = labels[..., :-1], labels[..., 1:]
    marked = (left != 0) | (right != 0)
    return bool((left == right)[marked].mean() >= 0.6) if marked.any() else True


def object_centers(labels: NDArray[np.integer]) -> dict[int, tuple[float, ...]] | None:
    """Return the centre of each value but 0, in shares of the sides, if each is one small region.

    None if one of the values is scattered over several regions, or wider than half the image.
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
