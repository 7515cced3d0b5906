"""ERFNet: residual blocks of one-dimensional convolutions.

Romera et al., "ERFNet: Efficient residual factorized ConvNet for real-time
semantic segmentation", IEEE T-ITS 2018, doi:10.1109/TITS.2017.2750080, table I.
"""

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from src_training.networks.base import SegmentationNetwork, Skips
from src_training.networks.blocks.channels import stem_channels
from src_training.networks.blocks.convolution import init_kaiming
from src_training.networks.blocks.pooling import DownsamplerBlock

_DILATIONS = (2, 4, 8, 16) * 2


class ERFNet(SegmentationNetwork):
    """An encoder to 128 channels at 1/8 and a small decoder, without skips.

    2.06 M parameters, 0.83 GMAC at 128 x 128.

    Parameters
    ----------
    in_channels, classes
        See `SegmentationNetwork`.
    """

    stride: ClassVar[int] = 8
    taps: ClassVar[dict[str, str]] = {
        "encoder_half": "encoder_half",
        "encoder_quarter": "encoder_quarter",
        "encoder_eighth": "encoder_eighth",
        "bottleneck": "encoder_eighth",
        "decoder_quarter": "decoder_quarter",
        "decoder_half": "decoder_half",
    }

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__(in_channels, classes)
        self.bottleneck_channels = 128
        stem = stem_channels(in_channels)
        self.encoder_half = _down(in_channels, stem)
        self.encoder_quarter = nn.Sequential(
            _down(stem, 64), *(NonBottleneck1D(64, dropout=0.03) for _ in range(5))
        )
        self.encoder_eighth = nn.Sequential(
            _down(64, 128), *(NonBottleneck1D(128, dilation, 0.3) for dilation in _DILATIONS)
        )
        self.decoder_quarter = nn.Sequential(_up(128, 64), NonBottleneck1D(64), NonBottleneck1D(64))
        self.decoder_half = nn.Sequential(_up(64, 16), NonBottleneck1D(16), NonBottleneck1D(16))
        self.head = nn.ConvTranspose2d(16, classes, 2, stride=2)
        self.apply(init_kaiming)

    def encode(self, x: Tensor) -> tuple[Skips, Tensor]:
        """Encode (B, in_channels, H, W) to (B, 128, H/8, W/8); there are no skips."""
        size = (x.shape[-2], x.shape[-1])
        quarter = self.encoder_quarter(self.encoder_half(self.pad(x)))
        return Skips((), size), self.encoder_eighth(quarter)

    def decode(self, skips: Skips, bottleneck: Tensor) -> Tensor:
        """Decode (B, 128, h, w) to logits (B, classes, H, W)."""
        logits: Tensor = self.head(self.decoder_half(self.decoder_quarter(bottleneck)))
        return self.crop(logits, skips)


class NonBottleneck1D(nn.Module):
    """Residual of two 3x3 convolutions, each factorised into 3x1 and 1x3 (fig. 2c of the paper).

    Parameters
    ----------
    channels
        Input and output channels.
    dilation
        Dilation of the second pair of convolutions, in pixels.
    dropout
        Probability of dropping a channel of the residual.
    """

    def __init__(self, channels: int, dilation: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_factorised(channels, 1),
            nn.ReLU(inplace=True),
            *_factorised(channels, dilation),
            nn.Dropout2d(dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) -> the same shape, >= 0."""
        return F.relu(x + self.layers(x))


def _factorised(channels: int, dilation: int) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(channels, channels, (3, 1), padding=(dilation, 0), dilation=(dilation, 1)),
        nn.ReLU(inplace=True),
        nn.Conv2d(
            channels, channels, (1, 3), padding=(0, dilation), dilation=(1, dilation), bias=False
        ),
        nn.BatchNorm2d(channels),
    )


def _down(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(DownsamplerBlock(in_channels, out_channels), nn.ReLU(inplace=True))


def _up(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(
            in_channels, out_channels, 3, stride=2, padding=1, output_padding=1, bias=False
        ),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )
