"""Training patches and validation images of a domain, prepared once and kept in memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from src_training.data.augmentation import Augmenter
from src_training.data.domain import Case, Domain
from src_training.data.preprocessing import Preprocessing
from src_training.data.preprocessing.geometry import Mask, Prepared
from src_training.errors import InputError

AnyArray = NDArray[Any]
T = TypeVar("T")

# As in nnU-Net: a third of the patches is centred on foreground, so that small
# organs are seen at all.
FOREGROUND_SHARE = 1 / 3


@dataclass(frozen=True)
class Batch:
    """What a stage learns from in one step.

    Attributes
    ----------
    image
        Anchors (B, C, patch, patch), float32 in [0, 1].
    mask
        Classes (M, patch, patch), int64, of the first M anchors; the other
        B - M are unlabelled.
    views
        Further views (B * K, C, patch, patch), sample by sample; None if K is 0.
    plain
        The anchors (B, C, patch, patch) as their own scanner shows them; None
        where `image` is just that, in a validation.
    """

    image: Tensor
    mask: Tensor
    views: Tensor | None = None
    plain: Tensor | None = None


@dataclass(frozen=True)
class PreparedCase:
    """A case on the grid that networks see.

    Attributes
    ----------
    name
        Of the case.
    image
        Pixels (C, h, w), field of view, and the way back to the original grid.
    mask
        Classes (h, w) uint8; all 0 where a case was prepared as unlabelled.
    """

    name: str
    image: Prepared
    mask: NDArray[np.uint8]

    @property
    def fov(self) -> Mask:
        """The pixels that count, (h, w)."""
        return self.image.fov


def prepare_cases(
    domain: Domain, preprocessing: Preprocessing, *, labelled: bool = True
) -> list[PreparedCase]:
    """Prepare every case of a domain.

    Parameters
    ----------
    domain, preprocessing
        What, and how.
    labelled
        Whether masks are needed; otherwise all is background, for images of
        which `SemiSupervisedSampler` hands no mask on.

    Raises
    ------
    InputError
        If a case has no mask and needs one, has an empty field of view, or
        cannot be prepared; the message names it.
    """
    how = preprocessing.for_camera(domain.angle)
    cases = domain.with_neighbours(how.neighbours)
    return [_prepared(case, how, domain.name, labelled) for case in cases]


def _prepared(
    case: Case, preprocessing: Preprocessing, domain: str, labelled: bool
) -> PreparedCase:
    mask = case.mask if labelled else np.zeros(case.size, np.uint8)
    if mask is None:
        raise InputError(f"{domain}/{case.name} has no mask; expected one for every training image")
    try:
        image = preprocessing.prepare(case.image, case.fov)
    except InputError as error:
        raise InputError(f"{domain}/{case.name}: {error}") from None
    if not image.fov.any():
        raise InputError(f"{domain}/{case.name}: the field of view is empty; expected pixels in it")
    return PreparedCase(case.name, image, image.geometry.to_prepared(mask).astype(np.uint8))


class Sampler(Protocol):
    """Whatever batches are drawn from."""

    def sample(self, count: int, views: int, device: torch.device) -> Batch:
        """Draw a batch of `count` anchors and `views` views of each, on a device."""


class PatchSampler:
    """Draws batches of patches from prepared cases.

    Every draw comes from torch's global generator, so a step is the same
    whenever it is run with the same seed.

    Parameters
    ----------
    cases
        At least one.
    views
        Makes anchors and views of what is cut.
    weights
        How often a patch is drawn from each case, relative to the others;
        equally often if missing.
    """

    def __init__(
        self,
        cases: list[PreparedCase],
        views: Augmenter,
        weights: Sequence[float] | None = None,
    ) -> None:
        self._views = views
        self._cases = cases
        self._weights = None if weights is None else torch.tensor(weights, dtype=torch.float64)
        self._anywhere = [None if case.fov.all() else _places(case.fov) for case in cases]
        self._foreground = [_places(case.mask > 0) for case in cases]

    def sample(self, count: int, views: int, device: torch.device) -> Batch:
        """Draw a batch of `count` anchors and `views` views of each, on a device."""
        crop_patch = [self._cut(self._case()) for _ in range(count)]
        image = torch.stack([image for image, _ in crop_patch]).to(device)
        mask = torch.stack([mask for _, mask in crop_patch]).to(device)
        moved, moved_mask = self._views.moved(image, mask)
        # Anchors and views are restyled once each: they share one distribution, and with
        # it the statistics that a network normalises by.
        further = self._views.views(moved, views) if views else None
        return Batch(self._views.restyle(moved), moved_mask.long(), further, moved)

    def _case(self) -> int:
        """Index of a case drawn at random."""
        if self._weights is None:
            return int(torch.randint(len(self._cases), ()))
        return int(torch.multinomial(self._weights, 1))

    def _cut(self, index: int) -> tuple[Tensor, Tensor]:
        case, places = self._cases[index], self._anywhere[index]
        wants_foreground = bool(torch.rand(()) < FOREGROUND_SHARE)
        if wants_foreground and len(self._foreground[index]):
            places = self._foreground[index]
        chosen = int(torch.randint(case.mask.size if places is None else len(places), ()))
        pixel = chosen if places is None else int(places[chosen])
        row, column = divmod(pixel, case.mask.shape[1])
        half = self._views.crop_size // 2
        image, mask = (
            _roomy(torch.from_numpy(array), (row - half, column - half), self._views.crop_size)
            for array in (case.image.pixels, case.mask)
        )
        return image, mask


class SemiSupervisedSampler:
    """Draws batches whose second half has no masks.

    The semi-supervised paradigm of Graph Flow (arXiv 2203.08667).

    Parameters
    ----------
    labelled, unlabelled
        Where each half is drawn from; of an odd batch, the larger is labelled.
    """

    def __init__(self, labelled: PatchSampler, unlabelled: PatchSampler) -> None:
        self._labelled, self._unlabelled = labelled, unlabelled

    def sample(self, count: int, views: int, device: torch.device) -> Batch:
        """Draw a batch of `count` anchors and `views` views of each, on a device."""
        first = self._labelled.sample(count - count // 2, views, device)
        if count < 2:
            return first
        second = self._unlabelled.sample(count // 2, views, device)
        return Batch(
            torch.cat([first.image, second.image]),
            first.mask,
            _both(first.views, second.views),
            _both(first.plain, second.plain),
        )


def evenly_spaced(everything: Sequence[T], count: int) -> list[T]:
    """At most `count` of a sequence, evenly spaced."""
    if len(everything) <= count:
        return list(everything)
    return [everything[i * len(everything) // count] for i in range(count)]


def _both(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    return None if first is None or second is None else torch.cat([first, second])


def patch_corners(fov: Mask, patch: int, least_seen: float = 0.5) -> list[tuple[int, int]]:
    """Top left corners of patches side by side over an image, in reading order.

    Parameters
    ----------
    fov
        (h, w) bool.
    patch
        Side, pixels; may exceed the image, which then has one patch.
    least_seen
        Patches with a smaller share inside the field of view are left out,
        unless all would be.
    """
    rows, columns = (_starts(length, patch) for length in fov.shape)
    corners = [(top, left) for top in rows for left in columns]
    seen = [corner for corner in corners if crop_patch(fov, corner, patch).mean() >= least_seen]
    return seen or corners


def crop_patch(array: AnyArray, corner: tuple[int, int], patch: int) -> AnyArray:
    """The patch (..., patch, patch) at a corner of (..., h, w), zeros beyond the image."""
    top, left = corner
    window = array[..., top : top + patch, left : left + patch]
    missing = [(0, 0)] * (array.ndim - 2) + [(0, patch - side) for side in window.shape[-2:]]
    return np.pad(window, missing)


def _starts(length: int, patch: int) -> list[int]:
    """Starts of as many patches as fit, spread evenly and centred."""
    count = max(1, length // patch)
    spare = max(0, length - count * patch)
    return [spare * (i + 1) // (count + 1) + i * patch for i in range(count)]


def _places(mask: Mask) -> NDArray[np.int32]:
    """Flat indices of the pixels that are true."""
    return np.flatnonzero(mask).astype(np.int32)


def _roomy(array: Tensor, corner: tuple[int, int], side: int) -> Tensor:
    """The square (..., side, side) at a corner that may lie outside, zeros beyond the image."""
    padding, window = list[int](), list[slice]()
    for start, length in zip(corner, array.shape[-2:], strict=True):
        first, last = max(0, start), min(length, start + side)
        window.append(slice(first, last))
        padding = [first - start, start + side - last, *padding]
    rows, columns = window
    return F.pad(array[..., rows, columns], padding)
