"""Losses between a network's logits and the masks."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from src_training.losses.regions import one_hot

Supervision = Literal["ce", "dice_ce", "dice_focal", "dice_focal_detached"]
"""Which losses a network learns from masks by; see `WEIGHTS`."""

WEIGHTS: dict[Supervision, dict[str, float]] = {
    "ce": {"ce": 1.0},
    "dice_ce": {"ce": 1.0, "dice": 1.0},
    "dice_focal": {"focal": 0.5, "dice": 0.5},
    "dice_focal_detached": {"focal": 0.5, "dice": 0.5},
}
"""Weight of each loss of each form, by name."""

_GAMMA = 2.0


def supervised_losses(logits: Tensor, mask: Tensor, supervision: Supervision) -> dict[str, Tensor]:
    """Losses of logits and masks, unweighted.

    ``dice`` sums over the samples of a batch: it needs the whole batch, and is
    no mean over samples.

    Parameters
    ----------
    logits
        (B, classes, H, W), float.
    mask
        Classes (B, H, W), int64.
    supervision
        Which losses: those that `WEIGHTS` has a weight for.

    Returns
    -------
    dict of str to Tensor
        ``ce`` cross entropy; ``focal`` `focal_loss`; ``dice``
        `region_dice_loss` of the foreground classes. Scalars >= 0.

    Examples
    --------
    >>> import torch
    >>> mask = torch.tensor([[[0, 1], [1, 1]]])
    >>> losses = supervised_losses(torch.zeros(1, 2, 2, 2), mask, "dice_ce")
    >>> {name: round(loss.item(), 4) for name, loss in losses.items()}
    {'ce': 0.6931, 'dice': 0.4}
    """
    names = WEIGHTS[supervision]
    losses = dict[str, Tensor]()
    if "ce" in names:
        losses["ce"] = F.cross_entropy(logits, mask)
    if "focal" in names:
        losses["focal"] = focal_loss(logits, mask, detached=supervision == "dice_focal_detached")
    if "dice" in names:
        foreground = one_hot(mask, logits.shape[1])[:, 1:].float()
        losses["dice"] = region_dice_loss(logits.softmax(1)[:, 1:], foreground)
    return losses


def focal_loss(logits: Tensor, mask: Tensor, detached: bool = False) -> Tensor:
    """-(1 - p)² log p of the true class, mean over pixels (arXiv 1708.02002, eq. 4).

    The factor (1 - p)² has a gradient, as in the equation, unless it is `detached`, as the
    public code of EMKD has it: a weighted cross entropy, whose gradients are smaller.

    MONAI's `FocalLoss` is `classes` times smaller, and casts to single
    precision: gradients of several processes would differ from those of one.

    Parameters
    ----------
    logits
        (B, classes, H, W).
    mask
        Classes (B, H, W), int64.
    detached
        Whether no gradient passes through the factor.

    Returns
    -------
    Tensor
        Scalar, >= 0.

    Examples
    --------
    >>> import torch
    >>> loss = focal_loss(torch.zeros(1, 2, 1, 3), torch.tensor([[[0, 1, 1]]]))
    >>> round(loss.item(), 6)  # a quarter of log 2
    0.173287
    """
    log_p = -F.cross_entropy(logits, mask, reduction="none")
    factor = (1 - log_p.exp()) ** _GAMMA
    return -((factor.detach() if detached else factor) * log_p).mean()


def region_dice_loss(probabilities: Tensor, regions: Tensor) -> Tensor:
    """1 - soft Dice of each region over the whole batch, mean over regions (MONAI's).

    Parameters
    ----------
    probabilities
        (B, regions, H, W), in [0, 1].
    regions
        Of the same shape, 0 or 1.

    Returns
    -------
    Tensor
        Scalar in [0, 1].

    Examples
    --------
    >>> import torch
    >>> region = torch.tensor([[[[1.0, 0.0]]]])
    >>> round(region_dice_loss(region, region).item(), 4)
    0.0
    >>> round(region_dice_loss(1 - region, region).item(), 4)
    1.0
    """
    # Loaded when it is needed: MONAI takes seconds to import.
    from monai.losses import DiceLoss

    loss: Tensor = DiceLoss(batch=True)(probabilities, regions)
    return loss
