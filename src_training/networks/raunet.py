"""RA-UNet: a ResNet-34 encoder, and a decoder that weights the skips by attention.

Ni et al., "RAUNet: Residual attention U-Net for semantic segmentation of cataract
surgical instruments", 2019, arXiv 1909.10360, as in EMKD (arXiv 2108.09987).
"""

from itertools import pairwise
from typing import ClassVar

from torch import Tensor, nn

from src_training.networks.base import SegmentationNetwork, Skips
from src_training.networks.blocks.channels import check_width
from src_training.networks.blocks.convolution import conv_bn_relu, init_kaiming
from src_training.networks.blocks.pooling import PooledBatchNorm2d
from src_training.networks.blocks.residual import BasicBlock, ResidualEncoder


class RAUNet(SegmentationNetwork):
    """A teacher of EMKD: 22.1 M parameters, bottleneck 512 channels at 1/32.

    EMKD starts from weights pre-trained on ImageNet, this network from random
    ones. Convolutions before a batch normalisation have no bias.

    Parameters
    ----------
    in_channels, classes
        See `SegmentationNetwork`.
    width
        Channels at 1/2; 64 as published, 8 to 16 train on a CPU.

    Raises
    ------
    InputError
        If `width` is not a positive multiple of 4.
    """

    stride: ClassVar[int] = 32
    taps: ClassVar[dict[str, str]] = {
        "encoder_half": "encoder.stem",
        "encoder_quarter": "encoder.stages.0",
        "encoder_eighth": "encoder.stages.1",
        "bottleneck": "encoder.stages.3",
        "decoder_eighth": "attention.1",
        "decoder_quarter": "attention.2",
        "decoder_half": "decoder.3",
    }

    def __init__(self, in_channels: int, classes: int, width: int = 64) -> None:
        super().__init__(in_channels, classes)
        check_width("raunet", width, multiple=4)
        self.encoder = ResidualEncoder(in_channels, width, BasicBlock, (3, 4, 6, 3))
        widths = (8 * width, 4 * width, 2 * width, width, width)
        self.bottleneck_channels = widths[0]
        self.decoder = nn.ModuleList(DecoderLevel(*pair) for pair in pairwise(widths))
        self.attention = nn.ModuleList(AugmentedAttention(channels) for channels in widths[1:4])
        # A side of h pixels becomes 2h + 1, then 2h - 1 and, after the head, 2h.
        self.finish = nn.Sequential(
            nn.ConvTranspose2d(width, width // 2, 3, stride=2),
            nn.ReLU(inplace=True),
            nn.Conv2d(width // 2, width // 2, 3),
            nn.ReLU(inplace=True),
        )
        self.head = nn.Conv2d(width // 2, classes, 2, padding=1)
        self.apply(init_kaiming)

    def encode(self, x: Tensor) -> tuple[Skips, Tensor]:
        """Encode (B, in_channels, H, W) to 1/32; the skips are at 1/4, 1/8 and 1/16."""
        size = (x.shape[-2], x.shape[-1])
        _, *skips, bottleneck = self.encoder(self.pad(x))
        return Skips(tuple(skips), size), bottleneck

    def decode(self, skips: Skips, bottleneck: Tensor) -> Tensor:
        """Decode (B, 8 width, h, w) to logits (B, classes, H, W)."""
        *levels, last = self.decoder
        x = bottleneck
        for level, attend, skip in zip(
            levels, self.attention, reversed(skips.features), strict=True
        ):
            x = attend(level(x), skip)
        logits: Tensor = self.head(self.finish(last(x)))
        return self.crop(logits, skips)


class DecoderLevel(nn.Module):
    """Reduce to a quarter of the channels, upsample, expand: LinkNet (arXiv 1707.03718).

    Parameters
    ----------
    in_channels, out_channels
        Input and output channels.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        inner = in_channels // 4
        self.layers = nn.Sequential(
            *conv_bn_relu(in_channels, inner, 1),
            nn.ConvTranspose2d(inner, inner, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(inplace=True),
            *conv_bn_relu(inner, out_channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, 2H, 2W), >= 0."""
        output: Tensor = self.layers(x)
        return output


class AugmentedAttention(nn.Module):
    """Add the skip with channel weights from the spatial means of both inputs (fig. 3)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.of_feature, self.of_skip = (_global_context(channels) for _ in range(2))
        self.weigh = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.Softmax(dim=1))
        self.mix = nn.Sequential(*conv_bn_relu(channels, channels, 1))

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(B, channels, H, W) each -> the same shape."""
        weight = self.weigh(self.of_feature(x) + self.of_skip(skip))
        output: Tensor = x + self.mix(skip) * weight
        return output


def _global_context(channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(1),
        nn.Conv2d(channels, channels, 1, bias=False),
        PooledBatchNorm2d(channels),
        nn.ReLU(inplace=True),
    )
