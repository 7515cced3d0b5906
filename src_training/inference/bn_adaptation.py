"""Batch norms that lean towards the statistics of the image at hand."""

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from src_training.networks.base import SegmentationNetwork


def adapt_batch_norm(
    tiles: Iterable[Tensor], network: SegmentationNetwork, share: float
) -> SegmentationNetwork:
    """A copy of a network whose batch norms know the image as well as the training images.

    Prediction-time batch normalization (Nado et al. 2020, arXiv 2006.10963),
    with the training's statistics as a prior (Schneider et al. 2020, arXiv
    2006.16971): means and variances are ``(1 - share) * training + share *
    image``. It takes neither masks nor gradients.

    Parameters
    ----------
    tiles
        (B, C, H, W) of the image, each as large as the memory allows.
    network
        In eval mode; stays as it is.
    share
        From 0, the training's statistics, to 1, the image's.
    """
    adapted = copy.deepcopy(network)
    norms = [module for module in adapted.modules() if isinstance(module, _BatchNorm)]
    trained = [tuple(part.clone() for part in _statistics(norm)) for norm in norms]
    for norm in norms:
        norm.train()
        # The plain average over all tiles, whose first takes the place of what was known; a
        # norm that counts none, of a single pooled value, goes on with that.
        norm.get_buffer("num_batches_tracked").zero_()
        norm.momentum = None
    with torch.no_grad():
        for tile in tiles:
            adapted(tile)
    for norm, former in zip(norms, trained, strict=True):
        norm.eval()
        for found, known in zip(_statistics(norm), former, strict=True):
            found.copy_(torch.lerp(known, found, share))
    return adapted


def _statistics(norm: nn.Module) -> tuple[Tensor, Tensor]:
    return norm.get_buffer("running_mean"), norm.get_buffer("running_var")
