"""UNet++: a U-Net with nested U-Nets as skips.

Zhou et al., "UNet++: A nested U-Net architecture for medical image segmentation",
2018, arXiv 1807.10165, as in EMKD (arXiv 2108.09987).
"""

from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src_training.networks.base import Skips
from src_training.networks.blocks.channels import check_width
from src_training.networks.blocks.convolution import conv_bn_relu, init_kaiming
from src_training.networks.unet import UNet

_LEVELS = 5


class UNetPlusPlus(UNet):
    """A teacher of EMKD: 36.6 M parameters, bottleneck 1024 channels at 1/16.

    There is no deep supervision. Only encoder features are skips; the nested
    nodes belong to the decoder. MONAI's BasicUNetPlusPlus upsamples by transposed
    convolutions and has a different number of parameters.

    Parameters
    ----------
    in_channels, classes
        See `SegmentationNetwork`.
    width
        Channels at full resolution; 64 as published, 8 to 16 train on a CPU.

    Raises
    ------
    InputError
        If `width` is not a positive integer.
    """

    stride: ClassVar[int] = 16
    taps: ClassVar[dict[str, str]] = {
        "encoder_half": "encoder.1",
        "encoder_quarter": "encoder.2",
        "encoder_eighth": "encoder.3",
        "bottleneck": "encoder.4",
        "decoder_eighth": "nested.3-1",
        "decoder_quarter": "nested.2-2",
        "decoder_half": "nested.1-3",
    }

    def __init__(self, in_channels: int, classes: int, width: int = 64) -> None:
        super().__init__(in_channels, classes)
        check_width("unet_plus_plus", width)
        widths = [width * 2**level for level in range(_LEVELS)]
        self.bottleneck_channels = widths[-1]
        self.encoder = nn.ModuleList(
            _double_conv(*pair) for pair in pairwise([in_channels, *widths])
        )
        self.nested = nn.ModuleDict(
            {
                _node(level, column): _double_conv(
                    column * widths[level] + widths[level + 1], out_channels
                )
                for level, out_channels in enumerate(widths[:-1])
                for column in range(1, _LEVELS - level)
            }
        )
        self.head = nn.Conv2d(width, classes, 1)
        self.apply(init_kaiming)

    def decode(self, skips: Skips, bottleneck: Tensor) -> Tensor:
        """Decode (B, 16 width, h, w) to logits (B, classes, H, W)."""
        rows = [[feature] for feature in (*skips.features, bottleneck)]
        for column in range(1, _LEVELS):
            for level in range(_LEVELS - column):
                below = F.interpolate(rows[level + 1][-1], scale_factor=2.0, mode="bilinear")
                joined = torch.cat([*rows[level], below], dim=1)
                rows[level].append(self.nested[_node(level, column)](joined))
        logits: Tensor = self.head(rows[0][-1])
        return self.crop(logits, skips)


def _node(level: int, column: int) -> str:
    """Name of node X^(level, column) in the paper's numbering."""
    return f"{level}-{column}"


def _double_conv(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        *conv_bn_relu(in_channels, out_channels, 3), *conv_bn_relu(out_channels, out_channels, 3)
    )
