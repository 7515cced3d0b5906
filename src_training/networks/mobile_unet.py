"""Mobile U-Net: MobileNetV2 as the encoder of a U-Net.

Sandler et al., "MobileNetV2: Inverted residuals and linear bottlenecks", 2018,
arXiv 1801.04381, table 2.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from src_training.errors import InputError
from src_training.networks.base import SegmentationNetwork, Skips
from src_training.networks.initialisation import kaiming

# Groups of blocks between two skips: (expansion, channels, blocks, first stride).
_ENCODER = (
    ((1, 16, 1, 1),),
    ((6, 24, 2, 2),),
    ((6, 32, 3, 2),),
    ((6, 64, 4, 2), (6, 96, 3, 1)),
    ((6, 160, 3, 2), (6, 320, 1, 1)),
)
_EXPANSION = 6
_BOTTLENECK = 1280


class MobileUNet(SegmentationNetwork):
    """MobileNetV2 to 1280 channels at 1/32, four decoder levels, logits from 1/2.

    4.7 M parameters, 0.24 GMAC at 128². Each decoder level is a transposed
    convolution, the skip, and an inverted residual. *Reconstruction*: the last
    doubling is a transposed convolution to the logits, so that structures a
    pixel wide can still be drawn.

    Parameters
    ----------
    in_channels, classes
        See `SegmentationNetwork`.
    width
        Multiplier of every channel count, the paper's alpha; 0.35 makes 0.60 M parameters.
        *Reconstruction*: the 1280 channels shrink with it.

    Raises
    ------
    InputError
        If `width` is not from 0.1 to 2.
    """

    stride: ClassVar[int] = 32
    taps: ClassVar[dict[str, str]] = {
        "encoder_half": "encoder.0",
        "encoder_quarter": "encoder.1",
        "encoder_eighth": "encoder.2",
        "bottleneck": "encoder.4",
        "decoder_eighth": "decoder.1",
        "decoder_quarter": "decoder.2",
        "decoder_half": "decoder.3",
    }

    def __init__(self, in_channels: int, classes: int, width: float = 1.0) -> None:
        super().__init__(in_channels, classes)
        if not 0.1 <= width <= 2:
            raise InputError(f"mobile_unet: width is {width}; expected 0.1 to 2")
        self.bottleneck_channels = _scaled(_BOTTLENECK, width)
        self.encoder = _encoder(in_channels, width)
        skips = tuple(_scaled(channels, width) for channels in (96, 32, 24, 16))
        ups = (self.bottleneck_channels, *skips[:-1])
        self.decoder = nn.ModuleList(
            DecoderLevel(below, here) for below, here in zip(ups, skips, strict=True)
        )
        self.head = nn.ConvTranspose2d(skips[-1], classes, 4, stride=2, padding=1)
        self.apply(kaiming)

    def encode(self, x: Tensor) -> tuple[Skips, Tensor]:
        """Encode (B, in_channels, H, W); the skips lie at 1/2, 1/4, 1/8 and 1/16."""
        size = (x.shape[-2], x.shape[-1])
        features: list[Tensor] = []
        x = self.pad(x)
        for stage in self.encoder:
            x = stage(x)
            features.append(x)
        return Skips(tuple(features[:-1]), size), features[-1]

    def decode(self, skips: Skips, bottleneck: Tensor) -> Tensor:
        """Decode (B, 1280, h, w) to logits (B, classes, H, W)."""
        x = bottleneck
        for level, skip in zip(self.decoder, reversed(skips.features), strict=True):
            x = level(x, skip)
        logits: Tensor = self.head(x)
        return self.crop(logits, skips)


class InvertedResidual(nn.Module):
    """Expand by 1×1, filter each channel by 3×3, project linearly (Fig. 3b of the paper).

    The input is added where stride and channels allow it.
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


class DecoderLevel(nn.Module):
    """Double the size, join the skip, mix both by an inverted residual."""

    def __init__(self, below: int, here: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(below, here, 4, stride=2, padding=1)
        self.mix = InvertedResidual(2 * here, here, _EXPANSION)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(B, below, H, W) and its skip (B, here, 2H, 2W) -> (B, here, 2H, 2W)."""
        mixed: Tensor = self.mix(torch.cat((skip, self.up(x)), dim=1))
        return mixed


def _scaled(channels: int, width: float) -> int:
    """Channels at a width: a multiple of 8, at least 8 and 9/10 of the exact number."""
    exact = channels * width
    rounded = max(8, int(exact + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * exact else rounded + 8


def _encoder(in_channels: int, width: float) -> nn.ModuleList:
    channels = _scaled(32, width)
    blocks: list[nn.Module] = [_convolution(in_channels, channels, 3, 2)]
    stages: list[nn.Module] = []
    for groups in _ENCODER:
        for expansion, wide, count, stride in groups:
            for index in range(count):
                step = stride if index == 0 else 1
                blocks.append(InvertedResidual(channels, _scaled(wide, width), expansion, step))
                channels = _scaled(wide, width)
        if groups is _ENCODER[-1]:
            blocks.append(_convolution(channels, _scaled(_BOTTLENECK, width), 1))
        stages.append(nn.Sequential(*blocks))
        blocks = []
    return nn.ModuleList(stages)


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
