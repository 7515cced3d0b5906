"""Prediction-time adaptation of batch norms to the image at hand."""

import copy
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from src_training.networks.base import SegmentationNetwork


def adapt_batch_norm(
    tiles: Iterable[Tensor],
    network: SegmentationNetwork,
    mixing: float,
    counting: Callable[[nn.Module], AbstractContextManager[Any]] = nullcontext,
) -> SegmentationNetwork:
    """Copy a network and mix an image's statistics into its batch norms.

    Prediction-time batch normalization (Nado et al. 2020, arXiv 2006.10963),
    with the statistics of training as a prior (Schneider et al. 2020, arXiv
    2006.16971): means and variances become ``(1 - mixing) * training + mixing
    * image``. It needs neither masks nor gradients.

    Parameters
    ----------
    tiles
        Tiles (B, C, H, W) of the image; statistics are averaged over them.
    network
        In eval mode; not changed.
    mixing
        Share of the image's statistics, from 0 to 1.
    counting
        Context of each forward pass, such as `ForwardProgress.counting`.

    Returns
    -------
    SegmentationNetwork
        The adapted copy, in eval mode.
    """
    adapted = copy.deepcopy(network)
    norms = [module for module in adapted.modules() if isinstance(module, _BatchNorm)]
    trained = [tuple(part.clone() for part in _statistics(norm)) for norm in norms]
    for norm in norms:
        norm.train()
        # Without momentum a norm averages over all tiles, and the first one replaces the
        # training's statistics. `PooledNorm` counts no single pooled value, and keeps them.
        norm.get_buffer("num_batches_tracked").zero_()
        norm.momentum = None
    with torch.no_grad():
        for tile in tiles:
            with counting(adapted):
                adapted(tile)
    for norm, former in zip(norms, trained, strict=True):
        norm.eval()
        for measured, training in zip(_statistics(norm), former, strict=True):
            measured.copy_(torch.lerp(training, measured, mixing))
    return adapted


def _statistics(norm: nn.Module) -> tuple[Tensor, Tensor]:
    return norm.get_buffer("running_mean"), norm.get_buffer("running_var")
