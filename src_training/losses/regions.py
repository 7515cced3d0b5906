"""One-hot masks, resizing, and the mean features of the regions of a mask."""

import torch.nn.functional as F
from torch import Tensor


def one_hot(mask: Tensor, classes: int) -> Tensor:
    """Convert a mask to one boolean channel for each class.

    Parameters
    ----------
    mask
        Integer classes (B, H, W), from 0 to classes - 1.
    classes
        Number of classes, the background included.

    Returns
    -------
    Tensor
        (B, classes, H, W) bool.

    Examples
    --------
    >>> import torch
    >>> one_hot(torch.tensor([[[0, 2]]]), 3)[0, :, 0].int()
    tensor([[1, 0],
            [0, 0],
            [0, 1]], dtype=torch.int32)
    """
    return F.one_hot(mask.long(), classes).movedim(-1, 1).bool()


def resize(feature: Tensor, size: tuple[int, ...]) -> Tensor:
    """Resize a feature (B, C, h, w) bilinearly to a height and width.

    Examples
    --------
    >>> import torch
    >>> resize(torch.zeros(1, 4, 8, 8), (16, 12)).shape
    torch.Size([1, 4, 16, 12])
    """
    if feature.shape[-2:] == size:
        return feature
    return F.interpolate(feature, tuple(size), mode="bilinear")


def regions(mask: Tensor, classes: int, size: tuple[int, ...]) -> Tensor:
    """Find the pixels of a feature that belong to each class.

    Parameters
    ----------
    mask
        Integer classes (B, H, W).
    classes
        Number of classes, the background included.
    size
        Height and width of the feature; the mask is sampled by nearest neighbour.

    Returns
    -------
    Tensor
        (B, classes, h, w) bool.

    Examples
    --------
    >>> import torch
    >>> mask = torch.tensor([[[0, 0, 1, 1], [0, 0, 1, 1]]])
    >>> regions(mask, 2, (1, 2))[0, 1]
    tensor([[False,  True]])
    """
    small = F.interpolate(mask[:, None].float(), tuple(size), mode="nearest")[:, 0]
    return one_hot(small, classes)


def region_means(feature: Tensor, inside: Tensor) -> Tensor:
    """Mean feature of each region; zeros where the region is empty.

    Parameters
    ----------
    feature
        (B, C, h, w).
    inside
        (B, classes, h, w) bool; see `regions`.

    Returns
    -------
    Tensor
        (B, classes, C).

    Examples
    --------
    >>> import torch
    >>> feature = torch.tensor([[[[1.0, 3.0, 8.0]]]])
    >>> inside = torch.tensor([[[[True, True, False]], [[False, False, False]]]])
    >>> region_means(feature, inside)
    tensor([[[2.],
             [0.]]])
    """
    weight = inside.flatten(2).to(feature.dtype)
    sums = weight @ feature.flatten(2).mT
    return sums / weight.sum(2, keepdim=True).clamp(min=1)
