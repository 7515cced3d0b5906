"""The downsampling that ENet begins with and ERFNet uses throughout."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PooledConvolution(nn.Module):
    """Halve the size: a strided convolution beside a max-pooling of the same input.

    The initial block of ENet (arXiv 1606.02147, Fig. 2a), without activation.

    Parameters
    ----------
    in_channels, out_channels
        The pooling contributes `in_channels` of the `out_channels`.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(
            in_channels, out_channels - in_channels, 3, stride=2, padding=1, bias=False
        )
        self.normalisation = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H/2, W/2), even H and W."""
        joined = torch.cat((self.convolution(x), F.max_pool2d(x, 2)), dim=1)
        normalised: Tensor = self.normalisation(joined)
        return normalised


def stem_channels(in_channels: int) -> int:
    """Channels after the first `PooledConvolution`: 16 for grey and colour, as published.

    More than three input channels still get 13 learned filters beside them.
    """
    return max(16, 13 + in_channels)
