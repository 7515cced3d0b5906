"""What a network learns from masks."""

import torch.nn.functional as F
from torch import Tensor

from src_training.alignment.semantic_autoencoder import regions_of
from src_training.config.recipe import Supervision

WEIGHTS: dict[Supervision, dict[str, float]] = {
    "ce": {"ce": 1.0},
    "dice_ce": {"ce": 1.0, "dice": 1.0},
    "dice_focal": {"focal": 0.5, "dice": 0.5},
}
"""Weight of each loss of each form, by name."""

_GAMMA = 2.0


def supervised_losses(logits: Tensor, mask: Tensor, supervision: Supervision) -> dict[str, Tensor]:
    """Losses from masks, unweighted.

    Parameters
    ----------
    logits
        (B, classes, H, W).
    mask
        (B, H, W), int64.
    supervision
        See `Recipe.supervised`; the losses are those that `WEIGHTS` weighs.

    Returns
    -------
    dict of str to Tensor
        ``ce`` cross entropy, ``focal`` focal loss (gamma 2, arXiv 1708.02002),
        ``dice`` soft Dice of the foreground (MONAI's).
    """
    names = WEIGHTS[supervision]
    losses = dict[str, Tensor]()
    if "ce" in names:
        losses["ce"] = F.cross_entropy(logits, mask)
    if "focal" in names:
        losses["focal"] = focal_loss(logits, mask)
    if "dice" in names:
        regions = regions_of(mask, logits.shape[1] - 1)
        losses["dice"] = region_dice_loss(logits.softmax(1)[:, 1:], regions)
    return losses


def focal_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """-(1 - p)² log p of each pixel's true class, mean over pixels (arXiv 1708.02002, eq. 4).

    Parameters
    ----------
    logits
        (B, classes, H, W).
    mask
        (B, H, W), int64.
    """
    log_p = -F.cross_entropy(logits, mask, reduction="none")
    return -((1 - log_p.exp()) ** _GAMMA * log_p).mean()


def region_dice_loss(probabilities: Tensor, regions: Tensor) -> Tensor:
    """Soft Dice loss of each region over the whole batch, mean over regions (MONAI's); in [0, 1].

    Parameters
    ----------
    probabilities, regions
        (B, regions, H, W), in [0, 1]; regions are 0 or 1.
    """
    from monai.losses import DiceLoss

    loss: Tensor = DiceLoss(batch=True)(probabilities, regions)
    return loss
