"""A case at a glance: its size, its classes and a thumbnail with their outlines."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from src_training.data.classes import ClassValues
from src_training.data.ct import WINDOWS, looks_like_hounsfield

Array = NDArray[Any]
Values = Mapping[str, int | list[int]]
Masks = Literal["required", "optional"]

OUTLINES = (
    (86, 180, 233),
    (230, 159, 0),
    (0, 158, 115),
    (240, 228, 66),
    (204, 121, 167),
    (213, 94, 0),
)
"""Colours (RGB) of the outlines, class by class and then again: those of Okabe and Ito."""

_COVERED = 0.25
"""Share of a thumbnail's pixel from which a class is drawn there: thin vessels stay in sight."""


@dataclass(frozen=True, eq=False)
class CaseSummary:
    """One case at a glance.

    Attributes
    ----------
    name
        Stem of its files, or name of its layer.
    size
        Height and width, pixels.
    counts
        Class -> pixels, background too; None without a mask that can be used.
        Of a volume, voxels.
    thumbnail
        (h, w, 3) uint8, each class of the mask outlined.
    slices
        How many a volume has; 0 of an image.
    """

    name: str
    size: tuple[int, int]
    counts: dict[str, int] | None
    thumbnail: NDArray[np.uint8]
    slices: int = 0


@dataclass(frozen=True)
class Problem:
    """What keeps a case, or the whole domain, from being used.

    Attributes
    ----------
    file
        The file below the folder (``masks/01.png``), the layer, or the folder.
    sentence
        What was found, and what is expected.
    """

    file: str
    sentence: str


@dataclass(frozen=True)
class Note:
    """What a person should know of a domain, and is no problem.

    Attributes
    ----------
    sentence
        Such as which values of its masks are taken for one class.
    """

    sentence: str


Seen = CaseSummary | Problem | Note


def merged(classes: ClassValues, values: set[int]) -> Iterator[Note]:
    """A note where masks hold several values beside 0, and all are taken for one class."""
    if classes.values is None and len(values - {0}) > 1:
        yield Note(f"The masks hold {classes.describe(values)}.")


def require_foreground(found: Iterable[Seen], domain: str) -> Iterator[Seen]:
    """What was found, and a problem in the end if every mask of the domain is all background."""
    counted = painted = 0
    for each in found:
        yield each
        if isinstance(each, CaseSummary) and each.counts is not None:
            counted += 1
            painted += sum(list(each.counts.values())[1:]) > 0
    if counted and not painted:
        yield Problem(
            domain, f"every mask of {domain} is all background; expected foreground in at least one"
        )


def look_of(
    name: str,
    image: Array,
    indices: NDArray[np.uint8] | None,
    classes: Sequence[str],
    longest: int,
) -> CaseSummary:
    """A case at a glance.

    Parameters
    ----------
    name
        Of the case.
    image
        (H, W) or (H, W, C).
    indices
        Class indices (H, W); None without mask.
    classes
        Their names, background first.
    longest
        Longer side of the thumbnail, pixels.
    """
    size = (image.shape[0], image.shape[1])
    scale = min(1.0, longest / max(size))
    small = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
    picture = _resized(Image.fromarray(_displayed(image)), small)
    if indices is None:
        return CaseSummary(name, size, None, picture)
    totals = np.bincount(indices.ravel(), minlength=len(classes)).tolist()
    for index in np.flatnonzero(totals[1:]) + 1:
        covered = _resized(Image.fromarray((indices == index).astype(np.uint8) * 255), small)
        region = covered > 255 * _COVERED
        picture[region & ~ndimage.binary_erosion(region)] = OUTLINES[(index - 1) % len(OUTLINES)]
    return CaseSummary(name, size, dict(zip(classes, totals, strict=True)), picture)


def _displayed(image: Array) -> NDArray[np.uint8]:
    """The image as (H, W, 3) uint8; CT in the window of soft tissue, else between percentiles."""
    colours = image[..., None] if image.ndim == 2 else image[..., :3]
    if colours.dtype != np.uint8:
        values = np.nan_to_num(colours.astype(np.float32), posinf=0, neginf=0)
        ct = looks_like_hounsfield(values)
        low, high = WINDOWS["soft_tissue"] if ct else np.percentile(values, (1, 99))
        colours = (((values - low) / max(high - low, 1e-12)).clip(0, 1) * 255).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(colours, (*colours.shape[:2], 3)))


def _resized(picture: Image.Image, size: tuple[int, int]) -> NDArray[np.uint8]:
    return np.array(picture.resize((size[1], size[0]), Image.Resampling.BOX))
