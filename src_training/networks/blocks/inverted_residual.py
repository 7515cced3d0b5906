"""Inverted residual blocks, and the encoder of MobileNetV2.

Sandler et al., "MobileNetV2: Inverted residuals and linear bottlenecks", 2018,
arXiv 1801.04381, table 2.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from src_training.networks.blocks.channels import scaled_channels

Group = tuple[int, int, int, int]
"""Blocks of one row of table 2: expansion t, channels c, number n, stride s of the first."""

LAST_CHANNELS = 1280
_FIRST_CHANNELS = 32


class InvertedResidual(nn.Module):
    """Expand by 1x1, filter each channel by 3x3, project linearly (fig. 3b of the paper).

    The input is added if the stride is 1 and the channels are equal.

    Parameters
    ----------
    in_channels, out_channels
        Input and output channels.
    expansion
        Ratio of the filtered to the input channels; 1 omits the expanding
        convolution.
    stride
        Stride of the 3x3 convolution, in pixels.
    """

    def __init__(
        self, in_channels: int, out_channels: int, expansion: int, stride: int = 1
    ) -> None:
        super().__init__()
        hidden = in_channels * expansion
        expand = [] if expansion == 1 else [_conv_bn_relu6(in_channels, hidden, 1)]
        self.layers = nn.Sequential(
            *expand,
            _conv_bn_relu6(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.adds_input = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H/stride, W/stride)."""
        projected: Tensor = self.layers(x)
        return x + projected if self.adds_input else projected


def mobilenetv2_encoder(
    in_channels: int, width: float, stages: Sequence[Sequence[Group]]
) -> nn.ModuleList:
    """A 3x3 convolution of stride 2, groups of blocks, a 1x1 convolution to 1280 channels.

    Parameters
    ----------
    in_channels
        Channels of the image.
    width
        Multiplier of every channel count, the paper's alpha.
    stages
        Groups of blocks for each module of the returned list. The first module
        begins with the 3x3 convolution, the last ends with the 1x1 convolution.

    Returns
    -------
    ModuleList
        One module for each of `stages`, to be applied in order.
    """
    channels = scaled_channels(_FIRST_CHANNELS, width)
    blocks: list[nn.Module] = [_conv_bn_relu6(in_channels, channels, 3, 2)]
    modules: list[nn.Module] = []
    for groups in stages:
        for expansion, group_channels, count, stride in groups:
            out_channels = scaled_channels(group_channels, width)
            for index in range(count):
                first_stride = stride if index == 0 else 1
                blocks.append(InvertedResidual(channels, out_channels, expansion, first_stride))
                channels = out_channels
        if groups is stages[-1]:
            blocks.append(_conv_bn_relu6(channels, scaled_channels(LAST_CHANNELS, width), 1))
        modules.append(nn.Sequential(*blocks))
        blocks = []
    return nn.ModuleList(modules)


def _conv_bn_relu6(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(
            in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False
        ),
        nn.BatchNorm2d(out_channels),
        nn.ReLU6(inplace=True),
    )
