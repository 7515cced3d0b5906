"""Stages that train an alignment network (TAN, SAN) on its frozen network."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from src_training.alignment.alignment_network import AlignmentNetwork
from src_training.alignment.consistency import alignment_losses
from src_training.alignment.semantic_autoencoder import SemanticAutoencoder
from src_training.data.sampling import Batch
from src_training.networks.base import SegmentationNetwork
from src_training.training.stages.base import Stage, add_namespace

if TYPE_CHECKING:
    from src_training.training.builders import Networks


class AlignmentStage(Stage):
    """ACT (GKD, arXiv 2207.12995): trains a TAN or a SAN on its frozen network.

    Parameters
    ----------
    name
        ``tan``, ``san``, ``san_baseline`` or ``san_distilled``.
    alignment
        Alignment network to train.
    network, autoencoder
        Network whose bottlenecks it encodes, and P-SAE whose vectors are its targets; both frozen.
    """

    def __init__(
        self,
        name: str,
        alignment: AlignmentNetwork,
        network: SegmentationNetwork,
        autoencoder: SemanticAutoencoder,
    ) -> None:
        super().__init__(name, alignment, [network, autoencoder])
        self._parts = (alignment, network, autoencoder)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the losses of `alignment_losses`."""
        alignment, network, autoencoder = self._parts
        with torch.no_grad():
            skips, bottleneck = network.encode(batch.image)
            logits = network.decode(skips, bottleneck)
            prior = autoencoder.vectors(batch.mask, batch.image)
        vector = alignment.encoder(bottleneck)
        reconstruction = alignment.header(vector)
        losses = alignment_losses(
            bottleneck,
            reconstruction,
            vector,
            prior,
            logits,
            network.decode(skips, reconstruction),
            batch.mask,
        )
        return add_namespace("alignment", losses)


def build_tan(networks: "Networks") -> AlignmentStage:
    """The stage ``tan``, on the trained teacher."""
    return _build("tan", networks.tan, networks.teacher, networks)


def build_san(networks: "Networks") -> AlignmentStage:
    """The stage ``san``, on the student that the baseline and the distilled one start from."""
    return _build("san", networks.san, networks.student, networks)


def build_san_baseline(networks: "Networks") -> AlignmentStage:
    """The stage ``san_baseline``, on the trained baseline."""
    return _build("san_baseline", networks.baseline_san, networks.baseline, networks)


def build_san_distilled(networks: "Networks") -> AlignmentStage:
    """The stage ``san_distilled``, on the distilled student."""
    return _build("san_distilled", networks.distilled_san, networks.distilled, networks)


def _build(
    name: str, alignment: AlignmentNetwork, network: SegmentationNetwork, networks: "Networks"
) -> AlignmentStage:
    return AlignmentStage(name, alignment, network, networks.autoencoder)
