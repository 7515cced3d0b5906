"""Images whose segmentation no rounding error decides.

Max-unpooling puts a value where a maximum was. Where two pixels of a window
are equal, as in a frame of zeros, or nearly so, the last bit of the arithmetic
chooses between them, and the probabilities around jump by up to 0.02: in
PyTorch as in any other runtime, on another processor, in another memory
layout. Such an image says nothing about an exported graph.
"""

import copy

import torch
from torch import Tensor, nn

from src_training.networks.base import SegmentationNetwork

_LAST_BITS = 2e-7
"""Of a float32 in [0, 1]."""


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
        """Largest difference in probability that float32, or the image's last bits, make.

        Parameters
        ----------
        image
            (B, C, H, W) float32.
        """
        single = self._single(image).softmax(1)
        last_bits = torch.rand(image.shape, generator=torch.Generator().manual_seed(0)) - 0.5
        double, nudged = (
            self._double(pixels).softmax(1)
            for pixels in (image.double(), image.double() + _LAST_BITS * last_bits)
        )
        return float(torch.stack([(single - double).abs(), (nudged - double).abs()]).max())
