"""PSPNet: a dilated ResNet-50, and a pyramid of what its features show on average.

Zhao et al., "Pyramid scene parsing network", CVPR 2017, arXiv 1612.01105, as EMKD
(arXiv 2108.09987) has it.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src_training.networks.base import SegmentationNetwork, Skips
from src_training.networks.blocks.initialisation import kaiming
from src_training.networks.blocks.residual import (
    BottleneckBlock,
    PooledNorm,
    ResidualEncoder,
    conv_bn_relu,
)
from src_training.networks.blocks.upsampling import upsample_by
from src_training.networks.blocks.width import refuse_width

_GRIDS = (1, 2, 3, 6)


class PSPNet(SegmentationNetwork):
    """A teacher of EMKD: 46.7 M parameters, bottleneck 2048 channels at 1/8, no skips.

    The taps of its decoder are class scores on their way to the image's size;
    the auxiliary branch, which EMKD leaves out, is left out.

    Parameters
    ----------
    in_channels, classes
        See `SegmentationNetwork`.
    width
        Channels of the first convolution, at 1/2; 64 as published, 8 to 16
        train on a CPU.

    Raises
    ------
    InputError
        If `width` is not a positive integer.
    """

    stride: ClassVar[int] = 8
    taps: ClassVar[dict[str, str]] = {
        "encoder_half": "encoder.stem.0",
        "encoder_quarter": "encoder.stages.0",
        "encoder_eighth": "encoder.stages.3",
        "bottleneck": "encoder.stages.3",
        "decoder_quarter": "enlarge.0",
        "decoder_half": "enlarge.1",
    }

    def __init__(self, in_channels: int, classes: int, width: int = 64) -> None:
        super().__init__(in_channels, classes)
        refuse_width("pspnet", width)
        blocks = (3, 4, 6, 3)
        self.encoder = ResidualEncoder(in_channels, width, BottleneckBlock, blocks, at_eighth=True)
        self.bottleneck_channels = self.encoder.channels
        self.pyramid = Pyramid(self.bottleneck_channels)
        self.head = nn.Conv2d(self.bottleneck_channels // 4, classes, 1)
        self.enlarge = upsample_by(self.stride)
        self.apply(kaiming)

    def encode(self, x: Tensor) -> tuple[Skips, Tensor]:
        """Encode (B, in_channels, H, W) to (B, 32 width, H/8, W/8)."""
        size = (x.shape[-2], x.shape[-1])
        return Skips((), size), self.encoder(self.pad(x))[-1]

    def decode(self, skips: Skips, bottleneck: Tensor) -> Tensor:
        """Decode (B, 32 width, h, w) to logits (B, classes, H, W)."""
        logits: Tensor = self.enlarge(self.head(self.pyramid(bottleneck)))
        return self.crop(logits, skips)


class Pyramid(nn.Module):
    """Means over 1, 4, 9 and 36 parts of the image, beside the features (Fig. 3).

    Parameters
    ----------
    channels
        Of the features, a multiple of 4; each mean has a quarter of them.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = channels // len(_GRIDS)
        self.means = nn.ModuleList(
            nn.Sequential(
                nn.AdaptiveAvgPool2d(grid),
                nn.Conv2d(channels, inner, 1, bias=False),
                PooledNorm(inner),
                nn.ReLU(inplace=True),
            )
            for grid in _GRIDS
        )
        self.mix = nn.Sequential(*conv_bn_relu(2 * channels, inner, 3), nn.Dropout2d(0.1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, h, w) -> (B, channels/4, h, w)."""
        size = x.shape[-2:]
        means = [F.interpolate(mean(x), size, mode="bilinear") for mean in self.means]
        mixed: Tensor = self.mix(torch.cat([x, *means], dim=1))
        return mixed
