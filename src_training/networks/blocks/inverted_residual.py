"""What MobileNetV2 is made of: inverted residuals, and an encoder of them.

Sandler et al., "MobileNetV2: Inverted residuals and linear bottlenecks", 2018,
arXiv 1801.04381, table 2.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from src_training.networks.blocks.width import scaled

Group = tuple[int, int, int, int]
"""Blocks alike: expansion, channels, how many, stride of the first."""

LAST_CHANNELS = 1280
_FIRST_CHANNELS = 32


class InvertedResidual(nn.Module):
    """Expand by 1×1, filter each channel by 3×3, project linearly (Fig. 3b of the paper).

    The input is added where stride and channels allow it.

    Parameters
    ----------
    in_channels, out_channels
        Of what comes in and goes out.
    expansion
        How many times as many channels are filtered; with 1 nothing is expanded.
    stride
        Of the filter, pixels.
    """

    def __init__(
        self, in_channels: int, out_channels: int, expansion: int, stride: int = 1
    ) -> None:
        super().__init__()
        hidden = in_channels * expansion
        expand = [] if expansion == 1 else [_convolution(in_channels, hidden, 1)]
        self.layers = nn.Sequential(
            *expand,
            _convolution(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.adds_input = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H/stride, W/stride)."""
        projected: Tensor = self.layers(x)
        return x + projected if self.adds_input else projected


def mobile_encoder(
    in_channels: int, width: float, stages: Sequence[Sequence[Group]]
) -> nn.ModuleList:
    """A 3×3 convolution of stride 2, groups of blocks, a 1×1 convolution to 1280 channels.

    Parameters
    ----------
    in_channels
        Channels of the image.
    width
        Multiplier of every channel count.
    stages
        Groups of blocks of each module of the list; the first convolution
        opens the first module, the last one closes the last.

    Returns
    -------
    ModuleList
        A module for each of `stages`, to be passed through in order.
    """
    channels = scaled(_FIRST_CHANNELS, width)
    blocks: list[nn.Module] = [_convolution(in_channels, channels, 3, 2)]
    made: list[nn.Module] = []
    for groups in stages:
        for expansion, wide, count, stride in groups:
            for index in range(count):
                step = stride if index == 0 else 1
                blocks.append(InvertedResidual(channels, scaled(wide, width), expansion, step))
                channels = scaled(wide, width)
        if groups is stages[-1]:
            blocks.append(_convolution(channels, scaled(LAST_CHANNELS, width), 1))
        made.append(nn.Sequential(*blocks))
        blocks = []
    return nn.ModuleList(made)


def _convolution(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(
            in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False
        ),
        nn.BatchNorm2d(out_channels),
        nn.ReLU6(inplace=True),
    )
