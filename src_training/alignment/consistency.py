"""Alignment Consistency Training: the losses under which a TAN or a SAN learns.

GKD (arXiv 2207.12995) names the training; the form of its losses is our
*reconstruction*.
"""

from typing import Annotated, Literal

import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from src_training.losses.divergence import pixel_divergence

Weight = Annotated[float, Field(ge=0)]


class AlignmentConsistency(BaseModel):
    """Weights and form of the alignment losses.

    Attributes
    ----------
    consistency
        ``reconstruction``: the rebuilt bottleneck resembles the true one.
        ``views`` adds that the vectors of a patch and of its augmented view
        agree.
    aligned
        Weight of the distance to the mask's vector (lambda_a).
    predicted
        Weight of what the decoder makes of the rebuilt bottleneck (lambda_p).
    prior
        What P-SAE reads to make the vector that is aligned to: the ``mask``,
        or the ``image``, from which it then learns to draw the mask.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    consistency: Literal["reconstruction", "views"] = "reconstruction"
    aligned: Weight = 1.0
    predicted: Weight = 1.0
    prior: Literal["mask", "image"] = "mask"

    @property
    def weights(self) -> dict[str, float]:
        """Weight of each loss that `alignment_losses` returns, by name."""
        return {
            "rebuilt": 1.0,
            "aligned": self.aligned,
            "predicted": self.predicted,
            "agreed": self.predicted,
            "views": 1.0,
        }


def alignment_losses(
    bottleneck: Tensor,
    rebuilt: Tensor,
    vector: Tensor,
    prior: Tensor,
    logits: Tensor,
    rebuilt_logits: Tensor,
    mask: Tensor,
    view_vector: Tensor | None = None,
) -> dict[str, Tensor]:
    """The terms of L_ACT, unweighted (*reconstruction*).

    Parameters
    ----------
    bottleneck, rebuilt
        F and H(E(F)), (B, C, h, w).
    vector, prior
        E(F) and the vector z_y that P-SAE makes of the mask, or of the image,
        (B, latent).
    logits, rebuilt_logits
        Dec(F) and Dec(H(E(F))), (B, classes, H, W).
    mask
        Classes (B, H, W), int64.
    view_vector
        E(F) of an augmented view, (B, latent); None without views.

    Returns
    -------
    dict of str to Tensor
        ``rebuilt`` mean squared error of the bottleneck, ``aligned`` of the
        vector to the prior, ``predicted`` cross entropy of the rebuilt
        prediction, ``agreed`` KL(Dec(F) || Dec(H(E(F)))), and, with
        `view_vector`, ``views``, its mean squared distance to the vector.
        Scalars >= 0.
    """
    losses = {
        "rebuilt": F.mse_loss(rebuilt, bottleneck),
        "aligned": F.mse_loss(vector, prior),
        "predicted": F.cross_entropy(rebuilt_logits, mask),
        "agreed": pixel_divergence(logits, rebuilt_logits),
    }
    if view_vector is not None:
        losses["views"] = F.mse_loss(view_vector, vector)
    return losses
