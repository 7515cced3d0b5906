"""Mobile U-Net: MobileNetV2 as the encoder of a U-Net.

Sandler et al., "MobileNetV2: Inverted residuals and linear bottlenecks", 2018,
arXiv 1801.04381, table 2.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from src_training.networks.base import Skips
from src_training.networks.blocks.channels import check_multiplier, scaled_channels
from src_training.networks.blocks.convolution import init_kaiming
from src_training.networks.blocks.inverted_residual import (
    LAST_CHANNELS,
    InvertedResidual,
    mobilenetv2_encoder,
)
from src_training.networks.unet import UNet

# Groups of blocks between two skips: (expansion, channels, blocks, first stride).
_ENCODER = (
    ((1, 16, 1, 1),),
    ((6, 24, 2, 2),),
    ((6, 32, 3, 2),),
    ((6, 64, 4, 2), (6, 96, 3, 1)),
    ((6, 160, 3, 2), (6, 320, 1, 1)),
)
_EXPANSION = 6


class MobileUNet(UNet):
    """MobileNetV2 to 1280 channels at 1/32, four decoder levels, a head at 1/2.

    4.7 M parameters, 0.24 GMAC at 128 x 128. Each decoder level is a transposed
    convolution, a concatenation with the skip, and an inverted residual.
    *Reconstruction*: the head is a transposed convolution, so that structures of
    one pixel's width can be segmented.

    Parameters
    ----------
    in_channels, classes
        See `SegmentationNetwork`.
    width
        Multiplier of every channel count, the paper's alpha, from 0.1 to 2;
        0.35 gives 0.60 M parameters. *Reconstruction*: it also multiplies the
        1280 channels.

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
        check_multiplier("mobile_unet", width)
        self.bottleneck_channels = scaled_channels(LAST_CHANNELS, width)
        self.encoder = mobilenetv2_encoder(in_channels, width, _ENCODER)
        skips = tuple(scaled_channels(channels, width) for channels in (96, 32, 24, 16))
        ups = (self.bottleneck_channels, *skips[:-1])
        self.decoder = nn.ModuleList(
            DecoderLevel(before, after) for before, after in zip(ups, skips, strict=True)
        )
        self.head = nn.ConvTranspose2d(skips[-1], classes, 4, stride=2, padding=1)
        self.apply(init_kaiming)

    def encode(self, x: Tensor) -> tuple[Skips, Tensor]:
        """Encode (B, in_channels, H, W) to 1/32; the skips are at 1/2, 1/4, 1/8 and 1/16."""
        size = (x.shape[-2], x.shape[-1])
        features: list[Tensor] = []
        x = self.pad(x)
        for stage in self.encoder:
            x = stage(x)
            features.append(x)
        return Skips(tuple(features[:-1]), size), features[-1]


class DecoderLevel(nn.Module):
    """Upsample, concatenate the skip, apply an inverted residual.

    Parameters
    ----------
    in_channels
        Channels of the input, which has half the size of the skip.
    out_channels
        Channels of the skip and of the output.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(in_channels, out_channels, 4, stride=2, padding=1)
        self.mix = InvertedResidual(2 * out_channels, out_channels, _EXPANSION)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(B, in, H, W) and its skip (B, out, 2H, 2W) -> (B, out, 2H, 2W)."""
        output: Tensor = self.mix(torch.cat((skip, self.up(x)), dim=1))
        return output
