"""Summary of a case: its size, the pixels of each class, and a thumbnail with their outlines."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

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
"""Colours (RGB) of the outlines, class by class and then again, by Okabe and Ito."""

THUMBNAIL = 96
"""Longer side of a thumbnail, pixels."""

_COVERED = 0.25
"""Share of a thumbnail's pixel from which a class is drawn there; low, to show thin vessels."""


@dataclass(frozen=True, eq=False)
class CaseSummary:
    """Summary of one case.

    Attributes
    ----------
    name
        Stem of its files, or name of its layer.
    size
        Height and width, pixels.
    counts
        Class -> pixels (of a volume, voxels), background included; None
        without a mask that can be used.
    thumbnail
        (h, w, 3) uint8, each class of the mask outlined.
    slices
        Number of slices of a volume; 0 for an image.
    """

    name: str
    size: tuple[int, int]
    counts: dict[str, int] | None
    thumbnail: NDArray[np.uint8]
    slices: int = 0


@dataclass(frozen=True)
class Problem:
    """A reason why a case, or the whole domain, cannot be used.

    Attributes
    ----------
    file
        The file within the folder (``masks/01.png``), the layer, or the folder.
    sentence
        What was found and what is expected.
    exclude
        Leaves out what cannot be used, as an entry of `DomainRecipe.exclude`; empty
        where the domain as a whole cannot be used.
    unused
        Of a mask without an image: nothing reads it, and it is in nobody's way.
    other_grid
        Of a mask on another grid than its image: it can be used if it may be resampled.
    channels
        Of a folder with several images of each case: one of these must be chosen.
    """

    file: str
    sentence: str
    exclude: str = ""
    unused: bool = False
    other_grid: bool = False
    channels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Note:
    """A remark on a domain that can be used.

    Attributes
    ----------
    sentence
        Such as which values of its masks become one class.
    other_values
        `class_values` by which the masks are read in the other way that makes sense.
    """

    sentence: str
    other_values: Values | None = None


Finding = CaseSummary | Problem | Note


def require_foreground(findings: Iterable[Finding], domain: str) -> Iterator[Finding]:
    """Yield the findings, and a problem at the end if every mask is all background."""
    masks = masks_with_foreground = 0
    for finding in findings:
        yield finding
        if isinstance(finding, CaseSummary) and finding.counts is not None:
            masks += 1
            masks_with_foreground += sum(list(finding.counts.values())[1:]) > 0
    if masks and not masks_with_foreground:
        yield Problem(
            domain, f"every mask of {domain} is all background; expected foreground in at least one"
        )


def summarise_case(
    name: str, image: Array, indices: NDArray[np.uint8] | None, classes: Sequence[str]
) -> CaseSummary:
    """Summarise a case.

    Parameters
    ----------
    name
        Name of the case.
    image
        (H, W) or (H, W, C).
    indices
        Class indices (H, W); None without mask.
    classes
        Names of the classes, background first.

    Examples
    --------
    >>> import numpy as np
    >>> image, mask = np.zeros((4, 4)), np.eye(4, dtype=np.uint8)
    >>> summarise_case("a", image, mask, ["background", "vessel"]).counts
    {'background': 12, 'vessel': 4}
    """
    size = (image.shape[0], image.shape[1])
    scale = min(1.0, THUMBNAIL / max(size))
    small = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
    thumbnail = _resize(Image.fromarray(_to_rgb(image)), small)
    if indices is None:
        return CaseSummary(name, size, None, thumbnail)
    totals = np.bincount(indices.ravel(), minlength=len(classes)).tolist()
    for index in np.flatnonzero(totals[1:]) + 1:
        covered = _resize(Image.fromarray((indices == index).astype(np.uint8) * 255), small)
        region = covered > 255 * _COVERED
        thumbnail[region & ~ndimage.binary_erosion(region)] = OUTLINES[(index - 1) % len(OUTLINES)]
    return CaseSummary(name, size, dict(zip(classes, totals, strict=True)), thumbnail)


def _to_rgb(image: Array) -> NDArray[np.uint8]:
    """(H, W, 3) uint8; CT in the window of soft tissue, others between percentiles."""
    colours = image[..., None] if image.ndim == 2 else image[..., :3]
    if colours.dtype != np.uint8:
        values = np.nan_to_num(colours.astype(np.float32), posinf=0, neginf=0)
        ct = looks_like_hounsfield(values)
        low, high = WINDOWS["soft_tissue"] if ct else np.percentile(values, (1, 99))
        colours = (((values - low) / max(high - low, 1e-12)).clip(0, 1) * 255).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(colours, (*colours.shape[:2], 3)))


def _resize(picture: Image.Image, size: tuple[int, int]) -> NDArray[np.uint8]:
    return np.array(picture.resize((size[1], size[0]), Image.Resampling.BOX))
