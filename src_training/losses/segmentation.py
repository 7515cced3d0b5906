"""Supervised losses of a network's logits and the masks."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from src_training.losses.regions import one_hot

Supervision = Literal["ce", "dice_ce", "dice_focal", "dice_focal_detached"]
"""Form of the supervised loss; see `WEIGHTS`."""

WEIGHTS: dict[Supervision, dict[str, float]] = {
    "ce": {"ce": 1.0},
    "dice_ce": {"ce": 1.0, "dice": 1.0},
    "dice_focal": {"focal": 0.5, "dice": 0.5},
    "dice_focal_detached": {"focal": 0.5, "dice": 0.5},
}
"""Weight of each loss of each form, by name."""

_GAMMA = 2.0


def supervised_losses(logits: Tensor, mask: Tensor, supervision: Supervision) -> dict[str, Tensor]:
    """Compute the unweighted losses of logits and masks.

    ``dice`` is computed from sums over all samples of the batch. It is not a mean
    over samples, so that it needs the whole batch.

    Parameters
    ----------
    logits
        (B, classes, H, W), float.
    mask
        Classes (B, H, W), int64.
    supervision
        Form of the loss; `WEIGHTS` lists its terms.

    Returns
    -------
    dict of str to Tensor
        ``ce``: cross entropy. ``focal``: `focal_loss`. ``dice``:
        `region_dice_loss` of the foreground classes. All are scalars >= 0.

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

    As in the equation, the factor (1 - p)² has a gradient. With `detached` it has
    none, as in the public code of EMKD; this is a weighted cross entropy with
    smaller gradients.

    MONAI's `FocalLoss` is `classes` times smaller. It also casts to float32, so
    that gradients of several processes would differ from those of one.

    Parameters
    ----------
    logits
        (B, classes, H, W).
    mask
        Classes (B, H, W), int64.
    detached
        Whether the factor is detached from the graph.

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
    """1 - soft Dice of each region over the whole batch, mean over regions (MONAI `DiceLoss`).

    Parameters
    ----------
    probabilities
        (B, regions, H, W), in [0, 1].
    regions
        Masks of the regions, of the same shape, 0 or 1.

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
    # Imported on demand, because importing MONAI takes seconds.
    from monai.losses import DiceLoss

    loss: Tensor = DiceLoss(batch=True)(probabilities, regions)
    return loss
