"""Images whose segmentation no rounding error decides.

Max-unpooling puts a value where a maximum was. Where two pixels of a window
are equal, as in a frame of zeros, or nearly so, the last bit of the arithmetic
chooses between them, and the probabilities around jump by up to 0.02: in
PyTorch as in any other runtime, on another processor, in another memory
layout. Such an image says nothing about an exported graph. Where float32 and
float64 agree, nothing hangs on rounding.
"""

import copy

import torch
from torch import Tensor, nn

from src_training.networks.base import SegmentationNetwork


class Unsettledness:
    """How far rounding alone moves a network's probabilities.

    Parameters
    ----------
    network
        In eval mode, float32, on the CPU; copied, not changed.
    """

    def __init__(self, network: SegmentationNetwork) -> None:
        self._single = network
        self._double: nn.Module = copy.deepcopy(network).double()

    @torch.no_grad()
    def __call__(self, image: Tensor) -> float:
        """Largest difference in probability between float32 and float64.

        Parameters
        ----------
        image
            (B, C, H, W) float32.
        """
        single = self._single(image).softmax(1)
        double = self._double(image.double()).softmax(1)
        return float((single - double).abs().max())
