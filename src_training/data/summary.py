"""Summary of a case: size, pixels of each class, and a thumbnail with outlines of the classes."""

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
"""Colours (RGB) of the outlines, repeated cyclically over the classes, by Okabe and Ito."""

THUMBNAIL = 96
"""Longer side of a thumbnail, pixels."""

_COVERED = 0.25
"""Smallest covered share of a thumbnail's pixel to draw a class; low, to show thin vessels."""


@dataclass(frozen=True, eq=False)
class CaseSummary:
    """Summary of one case.

    Attributes
    ----------
    name
        Stem of the files, or name of the layer.
    size
        Height and width, pixels.
    counts
        Class -> number of pixels (voxels of a volume), background included; None
        without a valid mask.
    thumbnail
        (h, w, 3) uint8, with an outline of each class of the mask.
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
        File within the folder (``masks/01.png``), layer, or folder.
    sentence
        Error message: what was found and what is expected.
    exclude
        Entry of `DomainRecipe.exclude` that resolves the problem; empty if none does.
    unused
        Whether the file is a mask without an image, which has no effect.
    other_grid
        Whether the mask is on another grid than its image; resampling resolves it.
    channels
        Channels to choose from, if the folder has several images of each case.
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
        Remark, for example about values of masks that are merged to one class.
    other_values
        `class_values` of the plausible alternative; see `MaskReading`.
    """

    sentence: str
    other_values: Values | None = None


Finding = CaseSummary | Problem | Note


def require_foreground(findings: Iterable[Finding], domain: str) -> Iterator[Finding]:
    """Yield the findings, and finally a problem if every mask is all background."""
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
    """Convert to (H, W, 3) uint8: CT by the soft tissue window, others by percentiles."""
    colours = image[..., None] if image.ndim == 2 else image[..., :3]
    if colours.dtype != np.uint8:
        values = np.nan_to_num(colours.astype(np.float32), posinf=0, neginf=0)
        ct = looks_like_hounsfield(values)
        low, high = WINDOWS["soft_tissue"] if ct else np.percentile(values, (1, 99))
        colours = (((values - low) / max(high - low, 1e-12)).clip(0, 1) * 255).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(colours, (*colours.shape[:2], 3)))


def _resize(picture: Image.Image, size: tuple[int, int]) -> NDArray[np.uint8]:
    return np.array(picture.resize((size[1], size[0]), Image.Resampling.BOX))
