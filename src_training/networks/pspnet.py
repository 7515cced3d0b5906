"""PSPNet: a dilated ResNet-50 and a pyramid of pooled features.

Zhao et al., "Pyramid scene parsing network", CVPR 2017, arXiv 1612.01105, as in EMKD
(arXiv 2108.09987).
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src_training.networks.base import SegmentationNetwork, Skips
from src_training.networks.blocks.channels import check_width
from src_training.networks.blocks.convolution import conv_bn_relu, init_kaiming, upsample_by
from src_training.networks.blocks.pooling import PooledBatchNorm2d
from src_training.networks.blocks.residual import BottleneckBlock, ResidualEncoder

_GRIDS = (1, 2, 3, 6)


class PSPNet(SegmentationNetwork):
    """A teacher of EMKD: 46.7 M parameters, bottleneck 2048 channels at 1/8, no skips.

    The taps of the decoder are the logits at the intermediate steps of
    upsampling. As in EMKD, there is no auxiliary branch.

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
        # Output of the first of the stem's three convolutions.
        "encoder_half": "encoder.stem.0",
        "encoder_quarter": "encoder.stages.0",
        "encoder_eighth": "encoder.stages.3",
        "bottleneck": "encoder.stages.3",
        "decoder_quarter": "upsample.0",
        "decoder_half": "upsample.1",
    }

    def __init__(self, in_channels: int, classes: int, width: int = 64) -> None:
        super().__init__(in_channels, classes)
        check_width("pspnet", width)
        blocks = (3, 4, 6, 3)
        self.encoder = ResidualEncoder(in_channels, width, BottleneckBlock, blocks, at_eighth=True)
        self.bottleneck_channels = self.encoder.channels
        self.pyramid = Pyramid(self.bottleneck_channels)
        self.head = nn.Conv2d(self.bottleneck_channels // 4, classes, 1)
        self.upsample = upsample_by(self.stride)
        self.apply(init_kaiming)

    def encode(self, x: Tensor) -> tuple[Skips, Tensor]:
        """Encode (B, in_channels, H, W) to (B, 32 width, H/8, W/8)."""
        size = (x.shape[-2], x.shape[-1])
        return Skips((), size), self.encoder(self.pad(x))[-1]

    def decode(self, skips: Skips, bottleneck: Tensor) -> Tensor:
        """Decode (B, 32 width, h, w) to logits (B, classes, H, W)."""
        logits: Tensor = self.upsample(self.head(self.pyramid(bottleneck)))
        return self.crop(logits, skips)


class Pyramid(nn.Module):
    """Means over 1, 4, 9 and 36 parts of the image, concatenated to the features (fig. 3).

    Parameters
    ----------
    channels
        Channels of the features, a multiple of 4; each mean is projected to a quarter.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = channels // len(_GRIDS)
        self.means = nn.ModuleList(
            nn.Sequential(
                nn.AdaptiveAvgPool2d(grid),
                nn.Conv2d(channels, inner, 1, bias=False),
                PooledBatchNorm2d(inner),
                nn.ReLU(inplace=True),
            )
            for grid in _GRIDS
        )
        self.mix = nn.Sequential(*conv_bn_relu(2 * channels, inner, 3), nn.Dropout2d(0.1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, h, w) -> (B, channels/4, h, w)."""
        size = x.shape[-2:]
        means = [F.interpolate(mean(x), size, mode="bilinear") for mean in self.means]
        output: Tensor = self.mix(torch.cat([x, *means], dim=1))
        return output
