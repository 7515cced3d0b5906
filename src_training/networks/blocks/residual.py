"""Residual blocks, and the encoder of ResNets.

He et al., "Deep residual learning for image recognition", CVPR 2016,
arXiv 1512.03385, table 1. The ResNets of MONAI and torchvision do not fit:
PSPNet has a stem of three convolutions and dilated last stages.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from src_training.networks.blocks.convolution import conv_bn, conv_bn_relu


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut: ResNet-18 and ResNet-34.

    Parameters
    ----------
    in_channels
        Input channels.
    width
        Channels of both convolutions, and of the output.
    stride
        Stride of the first 3x3 convolution, in pixels.
    dilation
        Dilation of the 3x3 convolutions, in pixels.
    """

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            *conv_bn_relu(in_channels, width, 3, stride, dilation),
            *conv_bn(width, width, 3, dilation=dilation),
        )
        self.shortcut = _shortcut(in_channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, width, H/stride, W/stride), >= 0."""
        return F.relu(self.residual(x) + self.shortcut(x))


class BottleneckBlock(nn.Module):
    """A 1x1, a 3x3 and an expanding 1x1 convolution with a shortcut: ResNet-50.

    Parameters
    ----------
    in_channels, width, stride, dilation
        As in `BasicBlock`, for the 3x3 convolution; the output has `expansion`
        times `width` channels.
    """

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int, dilation: int) -> None:
        super().__init__()
        out_channels = width * self.expansion
        self.residual = nn.Sequential(
            *conv_bn_relu(in_channels, width, 1),
            *conv_bn_relu(width, width, 3, stride, dilation),
            *conv_bn(width, out_channels, 1),
        )
        self.shortcut = _shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, 4 width, H/stride, W/stride), >= 0."""
        return F.relu(self.residual(x) + self.shortcut(x))


class ResidualEncoder(nn.Module):
    """A stem with stride 2, a max-pooling, and four stages of residual blocks.

    Parameters
    ----------
    in_channels
        Channels of the image.
    width
        Channels of the stem and of the first stage's 3x3 convolutions, doubled
        at each further stage; 64 as published. With `at_eighth` the stem's last
        convolution has twice as many.
    block
        Class of the residual blocks.
    counts
        Number of blocks in each stage.
    at_eighth
        Whether the last two stages stay at 1/8 of the resolution, with dilated
        instead of strided convolutions, after a stem of three 3x3 convolutions,
        as in PSPNet (arXiv 1612.01105).

    Attributes
    ----------
    channels
        Channels of the last stage.
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        block: type[BasicBlock] | type[BottleneckBlock],
        counts: Sequence[int],
        at_eighth: bool = False,
    ) -> None:
        super().__init__()
        first = conv_bn_relu(in_channels, width, 3 if at_eighth else 7, 2)
        self.stem = nn.Sequential(nn.Sequential(*first))
        channels = width
        if at_eighth:
            self.stem.append(nn.Sequential(*conv_bn_relu(width, width, 3)))
            self.stem.append(nn.Sequential(*conv_bn_relu(width, 2 * width, 3)))
            channels = 2 * width
        dilations = (1, 1, 2, 4) if at_eighth else (1, 1, 1, 1)
        self.stages = nn.ModuleList()
        for level, (count, dilation) in enumerate(zip(counts, dilations, strict=True)):
            stage_width = width * 2**level
            stride = 1 if level == 0 or dilation > 1 else 2
            # The first block's input has the sampling of the stage before, hence its dilation.
            first_block = block(channels, stage_width, stride, max(1, dilation // 2))
            channels = stage_width * block.expansion
            further = (block(channels, stage_width, 1, dilation) for _ in range(count - 1))
            self.stages.append(nn.Sequential(first_block, *further))
        self.channels = channels

    def forward(self, x: Tensor) -> list[Tensor]:
        """Features of the stem and of each stage of an image (B, in_channels, H, W).

        Returns
        -------
        list of Tensor
            Five, at 1/2, 1/4, 1/8, 1/16 and 1/32; with `at_eighth` the last
            two at 1/8, too.
        """
        features = [self.stem(x)]
        x = F.max_pool2d(features[0], 3, stride=2, padding=1)
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return nn.Sequential(*conv_bn(in_channels, out_channels, 1, stride))
