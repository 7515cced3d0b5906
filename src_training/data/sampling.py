"""Training patches: drawn at random from prepared images, or tiled over an image."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from src_training.data.augmentation import Augmenter
from src_training.data.preprocessing.geometry import Mask, PreparedImage

AnyArray = NDArray[Any]
T = TypeVar("T")

FOREGROUND_OVERSAMPLING = 1 / 3
"""Share of patches centred on foreground, as in nnU-Net, so that small organs are not missed."""

LEAST_INSIDE = 0.5
"""Smallest share of a patch inside the field of view for `patch_corners`."""


class Mixed(NamedTuple):
    """Pairs of anchors, mixed pixel by pixel.

    Attributes
    ----------
    image
        Mixed patches (B, C, patch, patch): `share` anchor + (1 - `share`) partner.
    partner
        Partners (B, C, patch, patch), without style augmentation.
    share
        Weights (B, 1, 1, 1) of the anchors, in [0, 1].
    partner_mask
        Classes (B, patch, patch) of the partners, int64; -1 for partners without mask.
    """

    image: Tensor
    partner: Tensor
    share: Tensor
    partner_mask: Tensor


@dataclass(frozen=True)
class Batch:
    """Input of a training step.

    Attributes
    ----------
    image
        Anchors (B, C, patch, patch), float32 in [0, 1].
    mask
        Classes (M, patch, patch), int64, of the first M anchors; the other
        B - M are unlabelled.
    views
        Views (B * K, C, patch, patch), adjacent for each sample; None if K is 0.
    unaugmented
        Anchors (B, C, patch, patch) without style augmentation; None in
        validation, where `image` has no augmentation.
    mixed
        Mixed patches, see `mix_pairs`; None if no distillation reads them.
    """

    image: Tensor
    mask: Tensor
    views: Tensor | None = None
    unaugmented: Tensor | None = None
    mixed: Mixed | None = None


def mix_pairs(batch: Batch) -> Batch:
    """Mix each anchor with the anchor of the previous sample, with weights from [0, 1]."""
    assert batch.unaugmented is not None
    share = torch.rand(len(batch.image), 1, 1, 1).to(batch.image)
    image = torch.lerp(batch.image.roll(1, 0), batch.image, share)
    masks = F.pad(batch.mask, (0, 0, 0, 0, 0, len(batch.image) - len(batch.mask)), value=-1)
    mixed = Mixed(image, batch.unaugmented.roll(1, 0), share, masks.roll(1, 0))
    return replace(batch, mixed=mixed)


class Sampler(Protocol):
    """Interface of objects that draw batches."""

    def sample(self, count: int, views: int, device: torch.device) -> Batch:
        """Draw a batch of `count` anchors and `views` views of each, on a device."""


class PatchSampler:
    """Draw batches of augmented patches from prepared images.

    A third of the patches is centred on foreground, the others anywhere in the
    field of view. Random numbers are drawn from torch's global generator. A seed
    gives the same anchors for any number of views.

    Parameters
    ----------
    images
        At least one image; images without mask count as background.
    augmenter
        Augments patches to anchors and views.
    weights
        Relative sampling frequency of each image; uniform if None.
    """

    def __init__(
        self,
        images: Sequence[PreparedImage],
        augmenter: Augmenter,
        weights: Sequence[float] | None = None,
    ) -> None:
        self._augmenter = augmenter
        self._images = images
        self._masks = [image.mask_or_background() for image in images]
        self._weights = None if weights is None else torch.tensor(weights, dtype=torch.float64)
        fovs = [image.fov for image in images]
        self._inside = [None if fov.all() else _true_pixels(fov) for fov in fovs]
        self._foreground = [_true_pixels(mask > 0) for mask in self._masks]

    def sample(self, count: int, views: int, device: torch.device) -> Batch:
        """Draw a batch of `count` anchors and `views` views of each, on a device."""
        crops = [self._crop(self._draw_image()) for _ in range(count)]
        image = torch.stack([image for image, _ in crops]).to(device)
        mask = torch.stack([mask for _, mask in crops]).to(device)
        image, mask = self._augmenter.spatial_augmentation(image, mask)
        # Anchors get the same style augmentation as views, so that both have the same batch norm
        # statistics. Views are drawn last, so that anchors do not depend on their number.
        anchors = self._augmenter.style_augmentation(image)
        further = self._augmenter.views(image, views) if views else None
        return Batch(anchors, mask.long(), further, image)

    def _draw_image(self) -> int:
        """Draw the index of an image."""
        if self._weights is None:
            return int(torch.randint(len(self._images), ()))
        return int(torch.multinomial(self._weights, 1))

    def _crop(self, index: int) -> tuple[Tensor, Tensor]:
        mask, pixels = self._masks[index], self._inside[index]
        oversampled = bool(torch.rand(()) < FOREGROUND_OVERSAMPLING)
        if oversampled and len(self._foreground[index]):
            pixels = self._foreground[index]
        chosen = int(torch.randint(mask.size if pixels is None else len(pixels), ()))
        pixel = chosen if pixels is None else int(pixels[chosen])
        row, column = divmod(pixel, mask.shape[1])
        side = self._augmenter.crop_size
        corner = (row - side // 2, column - side // 2)
        image = crop_padded(torch.from_numpy(self._images[index].pixels), corner, side)
        return image, crop_padded(torch.from_numpy(mask), corner, side)


class SemiSupervisedSampler:
    """Draw batches whose second half is unlabelled.

    This is the semi-supervised paradigm of Graph Flow (arXiv 2203.08667).

    Parameters
    ----------
    labelled, unlabelled
        Samplers of the two halves; the labelled half is larger if the count is odd.
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
            _concatenate(first.views, second.views),
            _concatenate(first.unaugmented, second.unaugmented),
        )


def evenly_spaced(items: Sequence[T], count: int) -> list[T]:
    """Choose at most `count` items of a sequence, evenly spaced.

    Examples
    --------
    >>> evenly_spaced("abcdef", 3)
    ['a', 'c', 'e']
    """
    if len(items) <= count:
        return list(items)
    return [items[i * len(items) // count] for i in range(count)]


def patch_corners(fov: Mask, patch: int) -> list[tuple[int, int]]:
    """Top left corners of patches that tile an image, in reading order.

    Parameters
    ----------
    fov
        (h, w) bool. Patches less than half inside the field of view are
        excluded, unless this excludes all.
    patch
        Side, pixels; an image smaller than this has one patch.

    Examples
    --------
    >>> import numpy as np
    >>> patch_corners(np.ones((4, 7), bool), 3)
    [(0, 0), (0, 3)]
    """
    rows, columns = (_starts(length, patch) for length in fov.shape)
    corners = [(top, left) for top in rows for left in columns]
    inside = [corner for corner in corners if crop_patch(fov, corner, patch).mean() >= LEAST_INSIDE]
    return inside or corners


def crop_patch(array: AnyArray, corner: tuple[int, int], patch: int) -> AnyArray:
    """Crop a patch (..., patch, patch) at a corner of (..., h, w), with zeros beyond the image.

    Examples
    --------
    >>> import numpy as np
    >>> crop_patch(np.array([[1, 2], [3, 4]]), (0, 1), 2)
    array([[2, 0],
           [4, 0]])
    """
    top, left = corner
    window = array[..., top : top + patch, left : left + patch]
    missing = [(0, 0)] * (array.ndim - 2) + [(0, patch - side) for side in window.shape[-2:]]
    return np.pad(window, missing)


def crop_padded(image: Tensor, corner: tuple[int, int], side: int) -> Tensor:
    """Crop a square (..., side, side) at a corner, possibly outside, with zeros beyond the image.

    Examples
    --------
    >>> import torch
    >>> crop_padded(torch.tensor([[1, 2], [3, 4]]), (-1, -1), 2)
    tensor([[0, 0],
            [0, 1]])
    """
    padding, window = list[int](), list[slice]()
    for start, length in zip(corner, image.shape[-2:], strict=True):
        first, last = max(0, start), min(length, start + side)
        window.append(slice(first, last))
        padding = [first - start, start + side - last, *padding]
    rows, columns = window
    return F.pad(image[..., rows, columns], padding)


def _starts(length: int, patch: int) -> list[int]:
    """Starts of as many patches as fit along a side, evenly spaced and centred."""
    count = max(1, length // patch)
    spare = max(0, length - count * patch)
    return [spare * (i + 1) // (count + 1) + i * patch for i in range(count)]


def _true_pixels(mask: Mask) -> NDArray[np.int32]:
    """Flat indices of the true pixels."""
    return np.flatnonzero(mask).astype(np.int32)


def _concatenate(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    return None if first is None or second is None else torch.cat([first, second])
