"""The two phases in which the semantic autoencoder (P-SAE) is trained on masks."""

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor

from src_training.alignment.semantic_autoencoder import SemanticAutoencoder
from src_training.data.sampling import Batch
from src_training.losses.segmentation import region_dice_loss
from src_training.training.distributed.sync_batch import all_gather_samples
from src_training.training.stages.base import Stage

if TYPE_CHECKING:
    from src_training.training.builders import Networks


class AutoencoderStage(Stage):
    """P-SAE (GKD, arXiv 2207.12995), first phase: trains its convolutions to reproduce masks.

    Parameters
    ----------
    autoencoder
        P-SAE whose encoder and decoder are trained; its perceptron does not change.
    """

    def __init__(self, autoencoder: SemanticAutoencoder) -> None:
        super().__init__("autoencoder", autoencoder)
        self.autoencoder = autoencoder
        # The second phase trains the perceptron.
        autoencoder.alignment.requires_grad_(False)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Compute ``bce`` and ``dice`` of the reproduced regions over the whole batch."""
        regions = all_gather_samples(self.autoencoder.regions(batch.mask))
        inputs = self.autoencoder.inputs(batch.mask, batch.image)
        logits = all_gather_samples(self.autoencoder.decode(self.autoencoder.encode(inputs)))
        return {
            "autoencoder/bce": F.binary_cross_entropy_with_logits(logits, regions),
            "autoencoder/dice": region_dice_loss(logits.sigmoid(), regions),
        }


class VectorStage(Stage):
    """P-SAE, second phase: trains its perceptron to compress a bottleneck into one vector.

    Parameters
    ----------
    autoencoder
        P-SAE whose perceptron is trained; its encoder and decoder are frozen.
    """

    def __init__(self, autoencoder: SemanticAutoencoder) -> None:
        super().__init__(
            "vectors", autoencoder.alignment, [autoencoder.encoder, autoencoder.decoder]
        )
        self.autoencoder = autoencoder

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the ``reconstruction`` error of the bottleneck, and ``bce`` of its regions."""
        regions = self.autoencoder.regions(batch.mask)
        bottleneck = self.autoencoder.encode(self.autoencoder.inputs(batch.mask, batch.image))
        reconstruction = self.trained(bottleneck)
        logits = self.autoencoder.decode(reconstruction)
        return {
            "autoencoder/reconstruction": F.mse_loss(reconstruction, bottleneck),
            "autoencoder/bce": F.binary_cross_entropy_with_logits(logits, regions),
        }


def build_autoencoder(networks: "Networks") -> AutoencoderStage:
    """The stage ``autoencoder``."""
    return AutoencoderStage(networks.autoencoder)


def build_vectors(networks: "Networks") -> VectorStage:
    """The stage ``vectors``."""
    return VectorStage(networks.autoencoder)
