"""Features and masks brought to one size."""

import torch.nn.functional as F
from torch import Tensor


def resized(feature: Tensor, size: tuple[int, ...]) -> Tensor:
    """A feature (B, C, h, w) at another height and width, bilinearly."""
    if feature.shape[-2:] == size:
        return feature
    return F.interpolate(feature, tuple(size), mode="bilinear")


def regions(mask: Tensor, classes: int, size: tuple[int, ...]) -> Tensor:
    """Which pixels of a feature are of which class.

    Parameters
    ----------
    mask
        (B, H, W), integer classes.
    classes
        How many there are, the background among them.
    size
        Height and width of the feature; the mask is sampled by nearest neighbour.

    Returns
    -------
    Tensor
        (B, classes, h, w) bool.
    """
    small = F.interpolate(mask[:, None].float(), tuple(size), mode="nearest")[:, 0].long()
    return F.one_hot(small, classes).movedim(-1, 1).bool()


def region_means(feature: Tensor, inside: Tensor) -> Tensor:
    """Mean feature (B, classes, C) of each region; 0 where it is empty.

    Parameters
    ----------
    feature
        (B, C, h, w).
    inside
        (B, classes, h, w) bool; see `regions`.
    """
    weight = inside.flatten(2).to(feature.dtype)
    sums = weight @ feature.flatten(2).mT
    return sums / weight.sum(2, keepdim=True).clamp(min=1)
