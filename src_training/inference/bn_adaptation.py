"""Prediction-time adaptation of batch norms to the image at hand."""

import copy
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from src_training.networks.base import SegmentationNetwork

Counting = Callable[[nn.Module], AbstractContextManager[Any]]
"""Context of each forward pass of a network, such as `ForwardProgress.counting`."""


class BatchNormAdaptation:
    """A copy of a network whose batch norms adapt to one image after another.

    Prediction-time batch normalization (Nado et al. 2020, arXiv 2006.10963),
    with the statistics of training as a prior (Schneider et al. 2020, arXiv
    2006.16971): means and variances become ``(1 - mixing) * training + mixing
    * image``. It needs neither masks nor gradients.

    Parameters
    ----------
    network
        In eval mode; not changed. The copy shares its weights, and has its
        own statistics.

    Attributes
    ----------
    network
        The copy, in eval mode.
    """

    def __init__(self, network: SegmentationNetwork) -> None:
        shared: dict[int, Any] = {id(weight): weight for weight in network.parameters()}
        self.network = copy.deepcopy(network, shared)
        self._norms, trained = (
            [each for each in net.modules() if isinstance(each, _BatchNorm)]
            for net in (self.network, network)
        )
        self._statistics = [
            pair
            for norms in zip(self._norms, trained, strict=True)
            for pair in zip(*map(_statistics, norms), strict=True)
        ]

    def adapt(
        self,
        tiles: Iterable[Tensor],
        mixing: float,
        counting: Counting = nullcontext,
    ) -> SegmentationNetwork:
        """Adapt the copy to an image, forgetting the one before.

        Parameters
        ----------
        tiles
            Tiles (B, C, H, W) of the image; statistics are averaged over them.
        mixing
            Share of the image's statistics, from 0 to 1.
        counting
            See `Counting`.

        Returns
        -------
        SegmentationNetwork
            The copy, in eval mode; valid until the next image.
        """
        for own, of_training in self._statistics:
            own.copy_(of_training)
        for norm in self._norms:
            norm.train()
            # Without momentum a norm averages over all tiles, and the first one replaces the
            # training's statistics. `PooledNorm` counts no single pooled value, and keeps them.
            norm.get_buffer("num_batches_tracked").zero_()
            norm.momentum = None
        with torch.no_grad():
            for tile in tiles:
                with counting(self.network):
                    self.network(tile)
        for norm in self._norms:
            norm.eval()
        for own, of_training in self._statistics:
            own.copy_(torch.lerp(of_training, own, mixing))
        return self.network


def _statistics(norm: nn.Module) -> tuple[Tensor, Tensor]:
    return norm.get_buffer("running_mean"), norm.get_buffer("running_var")
