"""What ResNets are made of: residual blocks, and an encoder of them.

He et al., "Deep residual learning for image recognition", CVPR 2016,
arXiv 1512.03385, table 1. Ours and not a library's: PSPNet's has dilated stages.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut: ResNet-18 and ResNet-34.

    Parameters
    ----------
    in_channels
        Of what comes in.
    width
        Of both convolutions; `expansion` times as many go out.
    stride
        Of the first 3×3 convolution, pixels.
    dilation
        Of every 3×3 convolution, pixels.
    """

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            *conv_bn_relu(in_channels, width, 3, stride, dilation),
            *_normalised(width, width, 3, dilation=dilation),
        )
        self.shortcut = _shortcut(in_channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, width, H/stride, W/stride), >= 0."""
        return F.relu(self.residual(x) + self.shortcut(x))


class BottleneckBlock(nn.Module):
    """1×1 to fewer channels, 3×3, 1×1 to four times as many, beside a shortcut: ResNet-50.

    Parameters
    ----------
    in_channels, width, stride, dilation
        As in `BasicBlock`; `width` is that of the 3×3 convolution.
    """

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int, dilation: int) -> None:
        super().__init__()
        out_channels = width * self.expansion
        self.residual = nn.Sequential(
            *conv_bn_relu(in_channels, width, 1),
            *conv_bn_relu(width, width, 3, stride, dilation),
            *_normalised(width, out_channels, 1),
        )
        self.shortcut = _shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, 4 width, H/stride, W/stride), >= 0."""
        return F.relu(self.residual(x) + self.shortcut(x))


class ResidualEncoder(nn.Module):
    """A stem at 1/2, a max-pooling, four stages of residual blocks.

    Parameters
    ----------
    in_channels
        Channels of the image.
    width
        Channels of the stem and of the first stage's 3×3 convolutions; doubles
        from stage to stage. 64 as published. With `at_eighth` the stem's last
        convolution has twice as many.
    block
        What the stages are made of.
    counts
        Blocks of each stage.
    at_eighth
        Keep the last two stages at 1/8, with dilated convolutions in the place
        of strides, behind a stem of three 3×3 convolutions: as PSPNet has it.

    Attributes
    ----------
    channels
        Of the last stage.
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
            wide = width * 2**level
            stride = 1 if level == 0 or dilation > 1 else 2
            # The first block sees what the stride would have brought together.
            first_block = block(channels, wide, stride, max(1, dilation // 2))
            channels = wide * block.expansion
            further = (block(channels, wide, 1, dilation) for _ in range(count - 1))
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


class PooledNorm(nn.BatchNorm2d):
    """Batch normalisation of what was pooled; a single value has no spread of its own.

    It is normalised by the running statistics, so that one image can be trained on.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape."""
        try:
            return super().forward(x)
        except ValueError:
            # PyTorch refuses a batch that is a single value for each channel.
            if x.numel() > x.shape[1]:
                raise
        mean, variance = self.running_mean, self.running_var
        return F.batch_norm(x, mean, variance, self.weight, self.bias, eps=self.eps)


def conv_bn_relu(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1, dilation: int = 1
) -> tuple[nn.Module, ...]:
    """A convolution that keeps the size but for its stride, normalised, with ReLU; `kernel` odd."""
    convolved = _normalised(in_channels, out_channels, kernel, stride, dilation)
    return *convolved, nn.ReLU(inplace=True)


def _normalised(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1, dilation: int = 1
) -> tuple[nn.Module, ...]:
    padding = kernel // 2 * dilation
    return (
        nn.Conv2d(in_channels, out_channels, kernel, stride, padding, dilation, bias=False),
        nn.BatchNorm2d(out_channels),
    )


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return nn.Sequential(*_normalised(in_channels, out_channels, 1, stride))
