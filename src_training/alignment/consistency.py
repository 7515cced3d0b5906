"""Alignment consistency training (ACT): the losses of a TAN or a SAN.

GKD (arXiv 2207.12995) mentions this training; the form of its losses is our
*reconstruction*:

L_ACT = mean (H(E(F)) - F)² + mean (E(F) - z_y)²
        + CE(Dec(H(E(F))), y) + KL(Dec(F) || Dec(H(E(F)))).
"""

from typing import Literal

import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from src_training.losses.divergence import pixel_divergence


class AlignmentOptions(BaseModel):
    """Options of the alignment.

    Attributes
    ----------
    prior
        Input of the semantic autoencoder (P-SAE), whose vectors z_y are the
        target of the alignment: the ``mask``, or the ``image``, which the
        autoencoder then learns to segment.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    prior: Literal["mask", "image"] = "mask"


def alignment_losses(
    bottleneck: Tensor,
    reconstruction: Tensor,
    vector: Tensor,
    prior: Tensor,
    logits: Tensor,
    reconstructed_logits: Tensor,
    mask: Tensor,
) -> dict[str, Tensor]:
    """The terms of L_ACT (*reconstruction*); their sum is minimised.

    Parameters
    ----------
    bottleneck, reconstruction
        F and H(E(F)), (B, C, h, w).
    vector, prior
        E(F), and the vector z_y of P-SAE, (B, latent).
    logits, reconstructed_logits
        Dec(F) and Dec(H(E(F))), (B, classes, H, W).
    mask
        Classes (B, H, W), int64.

    Returns
    -------
    dict of str to Tensor
        ``reconstruction``: mean squared error of the bottleneck. ``latent``:
        mean squared error of the vector. ``ce``: cross entropy of Dec(H(E(F)))
        and the mask. ``kl``: divergence of Dec(H(E(F))) from Dec(F), see
        `pixel_divergence`. All are scalars >= 0 and means over samples.

    Examples
    --------
    >>> import torch
    >>> bottleneck, vector = torch.ones(1, 4, 2, 2), torch.ones(1, 8)
    >>> logits, mask = torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4, dtype=torch.int64)
    >>> losses = alignment_losses(
    ...     bottleneck, 3 * bottleneck, vector, 0 * vector, logits, logits, mask
    ... )
    >>> {name: round(loss.item(), 2) for name, loss in losses.items()}
    {'reconstruction': 4.0, 'latent': 1.0, 'ce': 0.69, 'kl': 0.0}
    """
    return {
        "reconstruction": F.mse_loss(reconstruction, bottleneck),
        "latent": F.mse_loss(vector, prior),
        "ce": F.cross_entropy(reconstructed_logits, mask),
        "kl": pixel_divergence(logits, reconstructed_logits),
    }
