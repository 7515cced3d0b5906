"""Blocks around pooling: downsampling, and normalisation of pooled features."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DownsamplerBlock(nn.Module):
    """Halve the size by a strided convolution and, in parallel, by max-pooling.

    ENet's initial block (arXiv 1606.02147, fig. 2a) and ERFNet's downsampler
    block (doi:10.1109/TITS.2017.2750080), without the activation.

    Parameters
    ----------
    in_channels, out_channels
        Input and output channels. The max-pooling gives `in_channels` of the
        output channels, the convolution the rest.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(
            in_channels, out_channels - in_channels, 3, stride=2, padding=1, bias=False
        )
        self.normalisation = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H/2, W/2), for even H and W."""
        joined = torch.cat((self.convolution(x), F.max_pool2d(x, 2)), dim=1)
        normalised: Tensor = self.normalisation(joined)
        return normalised


class PooledBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation that can be trained on a single value for each channel.

    A batch of one image that is pooled to 1 x 1 has no variance, and
    `nn.BatchNorm2d` raises an error. It is normalised by the running statistics
    instead, so that a network can be trained on batches of one.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape."""
        try:
            return super().forward(x)
        except ValueError:
            # PyTorch raises ValueError for a single value per channel.
            if x.numel() > x.shape[1]:
                raise
        mean, variance = self.running_mean, self.running_var
        return F.batch_norm(x, mean, variance, self.weight, self.bias, eps=self.eps)
