"""Prediction-time adaptation of batch norms to each image."""

import copy
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from src_training.networks.base import SegmentationNetwork

_EPSILON = 1e-5

Counting = Callable[[nn.Module], AbstractContextManager[Any]]
"""Context of each forward pass of a network, such as `ForwardProgress.counting`."""


Shift = NDArray[np.float64]
"""(64,), difference of an image's statistics in all batch norms from those of training: means
in standard deviations, and logarithms of ratios of variances; the hyperbolic tangent of each,
projected by random signs."""


class KnownInputs(BaseModel):
    """Distribution of the shifts of validation images, plain and restyled: a Gaussian and a limit.

    A probabilistic principal component analysis (Tipping and Bishop 1999). Images beyond the
    limit are unlike those that the model was made for, such as MR for a model of CT, and their
    probabilities are meaningless.

    Attributes
    ----------
    mean
        Mean `Shift`.
    axes, variances
        Principal axes, and the variance along each.
    noise
        Variance along all other axes.
    limit
        Largest squared Mahalanobis distance of known images.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    mean: list[float]
    axes: list[list[float]]
    variances: list[float]
    noise: float = Field(gt=0)
    limit: float = Field(gt=0)

    def distance(self, shift: Shift) -> float:
        """Squared Mahalanobis distance of the shift of an image.

        >>> known = KnownInputs(mean=[0, 0], axes=[[1, 0]], variances=[4], noise=1, limit=9)
        >>> known.distance(np.array([2.0, 3.0]))
        10.0
        """
        difference = shift - np.array(self.mean)
        along = np.array(self.axes) @ difference
        rest = float((difference**2).sum() - (along**2).sum())
        return float((along**2 / np.array(self.variances)).sum()) + rest / self.noise

    def is_foreign(self, shift: Shift | None) -> bool:
        """Whether an image is beyond the limit; false if its shift is unknown."""
        return shift is not None and self.distance(shift) > self.limit


class BatchNormAdaptation:
    """A copy of a network whose batch norms adapt to one image after another.

    Prediction-time batch normalization (Nado et al. 2020, arXiv 2006.10963),
    with the statistics of training as a prior (Schneider et al. 2020, arXiv
    2006.16971): means and variances become ``(1 - mixing) * training + mixing
    * image``. It needs neither masks nor gradients.

    Parameters
    ----------
    network
        Network in eval mode; not changed. The copy shares its weights, and has its
        own running statistics.

    Attributes
    ----------
    network
        The copy, in eval mode.
    shift
        Shift of the last image; None without batch norms.
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
        self.shift: Shift | None = None
        self._signs: Tensor | None = None

    def adapt(
        self,
        tiles: Iterable[Tensor],
        mixing: float,
        counting: Counting = nullcontext,
    ) -> SegmentationNetwork:
        """Adapt the copy to an image, instead of the previous one.

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
        for adapted, trained in self._statistics:
            adapted.copy_(trained)
        for norm in self._norms:
            norm.train()
            # Without momentum a norm averages over all tiles, and the first one replaces the
            # statistics of training. `PooledNorm` ignores single pooled values, and then keeps
            # the statistics of training.
            norm.get_buffer("num_batches_tracked").zero_()
            norm.momentum = None
        with torch.no_grad():
            for tile in tiles:
                with counting(self.network):
                    self.network(tile)
        for norm in self._norms:
            norm.eval()
        self.shift = self._measure_shift()
        for adapted, trained in self._statistics:
            adapted.copy_(torch.lerp(trained, adapted, mixing))
        return self.network

    def _measure_shift(self) -> Shift | None:
        if not self._statistics:
            return None
        adapted, trained = (torch.cat(part) for part in zip(*self._statistics, strict=True))
        # `_statistics` alternates between the mean and the variance of each norm. Both are compared
        # with the variance of training.
        variances = [pair[1] for pair in self._statistics[1::2]]
        variance = torch.cat([each for each in variances for _ in range(2)]) + _EPSILON
        is_mean = torch.cat([torch.full_like(each, k) for each in variances for k in (1, 0)]) > 0
        shift = torch.where(
            is_mean,
            (adapted - trained) / variance.sqrt(),
            ((adapted + _EPSILON) / variance).log(),
        )
        # Bounded, because channels that are almost constant in training would outweigh all others.
        features = shift.tanh().double().cpu()
        if self._signs is None:
            self._signs = torch.from_numpy(_random_signs(len(features)))
        return np.asarray((features @ self._signs).numpy() / len(features) ** 0.5)


def _random_signs(count: int) -> NDArray[np.float64]:
    """Signs (count, 64) from the bits of a hash (SplitMix64), the same on every platform."""
    bits = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    bits ^= bits >> np.uint64(31)
    octets = bits.astype("<u8").view(np.uint8).reshape(count, 8)
    return np.where(np.unpackbits(octets, axis=1), 1.0, -1.0)


def _statistics(norm: nn.Module) -> tuple[Tensor, Tensor]:
    return norm.get_buffer("running_mean"), norm.get_buffer("running_var")
