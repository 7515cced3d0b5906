"""Training patches and validation images of a domain, prepared once and kept in memory."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from src_training.data.domain import Case, Domain
from src_training.data.preprocess import Mask, Prepared, Preprocessing
from src_training.data.views import Views
from src_training.errors import InputError

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
        Classes (B, patch, patch), int64.
    views
        Further views (B * K, C, patch, patch), sample by sample; None if K is 0.
    """

    image: Tensor
    mask: Tensor
    views: Tensor | None = None


@dataclass(frozen=True)
class PreparedCase:
    """A case on the grid that networks see: image, classes (h, w), and the way back."""

    name: str
    image: Prepared
    mask: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]

    @property
    def fov(self) -> Mask:
        """The pixels that count, (h, w)."""
        return self.image.fov


def prepare_cases(domain: Domain, preprocessing: Preprocessing) -> list[PreparedCase]:
    """Prepare every case of a labelled domain.

    Raises
    ------
    InputError
        If a case has no mask or cannot be prepared; the message names it.
    """
    return [_prepared(case, preprocessing, domain.name) for case in domain]


def _prepared(case: Case, preprocessing: Preprocessing, domain: str) -> PreparedCase:
    if case.mask is None:
        raise InputError(f"{domain}/{case.name} has no mask; expected one for every training image")
    try:
        image = preprocessing.prepare(case.image, case.fov)
    except InputError as error:
        raise InputError(f"{domain}/{case.name}: {error}") from None
    return PreparedCase(case.name, image, image.geometry.to_prepared(case.mask).astype(np.uint8))


class Patches:
    """Draws batches of patches from prepared cases.

    Every draw comes from torch's global generator, so a step is the same
    whenever it is run with the same seed.

    Parameters
    ----------
    cases
        At least one.
    views
        Makes anchors and views of what is cut.
    """

    def __init__(self, cases: list[PreparedCase], views: Views) -> None:
        self._views = views
        margin = views.roomy // 2
        self._images = [_framed(torch.from_numpy(case.image.pixels), margin) for case in cases]
        self._masks = [_framed(torch.from_numpy(case.mask), margin) for case in cases]
        self._anywhere = [np.argwhere(case.fov) for case in cases]
        self._foreground = [np.argwhere(case.mask > 0) for case in cases]

    def draw(self, count: int, views: int, device: torch.device) -> Batch:
        """Draw a batch of `count` anchors and `views` views of each, on a device."""
        cut = [self._cut(int(torch.randint(len(self._images), ()))) for _ in range(count)]
        image = torch.stack([image for image, _ in cut]).to(device)
        mask = torch.stack([mask for _, mask in cut]).to(device)
        anchor, anchor_mask = self._views.anchor(image, mask)
        further = self._views.views(anchor, views) if views else None
        return Batch(anchor, anchor_mask.long(), further)

    def _cut(self, index: int) -> tuple[Tensor, Tensor]:
        places = self._anywhere[index]
        wants_foreground = bool(torch.rand(()) < FOREGROUND_SHARE)
        if wants_foreground and len(self._foreground[index]):
            places = self._foreground[index]
        top, left = places[int(torch.randint(len(places), ()))]
        side = self._views.roomy
        window = (..., slice(top, top + side), slice(left, left + side))
        return self._images[index][window], self._masks[index][window]


def central_patches(
    case: PreparedCase, patch: int, least_fov: float = 0.5
) -> Iterator[tuple[Tensor, Tensor]]:
    """Unaugmented patches side by side over a case: its image and mask, in reading order.

    Parameters
    ----------
    case
        Smaller ones are framed with zeros to one patch.
    patch
        Side, pixels.
    least_fov
        Patches that lie inside the field of view by less than this share are
        left out, unless all would be.

    Yields
    ------
    tuple of Tensor
        (C, patch, patch) float32 and (patch, patch) uint8.
    """
    image, mask = torch.from_numpy(case.image.pixels), torch.from_numpy(case.mask)
    corners = [
        (top, left)
        for top in _starts(mask.shape[0], patch)
        for left in _starts(mask.shape[1], patch)
    ]
    seen = {c: float(case.fov[c[0] : c[0] + patch, c[1] : c[1] + patch].mean()) for c in corners}
    kept = [corner for corner in corners if seen[corner] >= least_fov]
    for top, left in kept or corners:
        window = (..., slice(top, top + patch), slice(left, left + patch))
        yield _filled(image[window], patch), _filled(mask[window], patch)


def _starts(length: int, patch: int) -> list[int]:
    """Starts of as many patches as fit, spread evenly and centred."""
    count = max(1, length // patch)
    spare = max(0, length - count * patch)
    return [spare * (i + 1) // (count + 1) + i * patch for i in range(count)]


def _framed(image: Tensor, margin: int) -> Tensor:
    return F.pad(image, (margin, margin, margin, margin))


def _filled(image: Tensor, patch: int) -> Tensor:
    return F.pad(image, (0, patch - image.shape[-1], 0, patch - image.shape[-2]))
