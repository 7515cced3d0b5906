"""ENet: narrow bottlenecks, early downsampling, max-unpooling.

Paszke et al., "ENet: A deep neural network architecture for real-time semantic
segmentation", 2016, arXiv 1606.02147, table 1 and figure 2.
"""

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from src_training.networks.base import SegmentationNetwork, Skips
from src_training.networks.blocks.channels import stem_channels
from src_training.networks.blocks.convolution import conv_bn, init_kaiming
from src_training.networks.blocks.pooling import DownsamplerBlock


class ENet(SegmentationNetwork):
    """The network of table 1; its skips are the indices of the two max-poolings.

    0.35 M parameters, 0.115 GMAC at 128 x 128.

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
        self.encoder_half = nn.Sequential(DownsamplerBlock(in_channels, stem), nn.PReLU(stem))
        self.down_quarter = DownsamplingBottleneck(stem, 64, dropout=0.01)
        self.encoder_quarter = nn.Sequential(*(_regular(64, dropout=0.01) for _ in range(4)))
        self.down_eighth = DownsamplingBottleneck(64, 128, dropout=0.1)
        self.encoder_eighth = nn.Sequential(*_section(128), *_section(128))
        self.to_quarter = UpsamplingBottleneck(128, 64)
        self.decoder_quarter = nn.Sequential(_regular(64), _regular(64))
        self.to_half = UpsamplingBottleneck(64, stem)
        self.decoder_half = _regular(stem)
        self.head = nn.ConvTranspose2d(stem, classes, 2, stride=2)
        self.apply(init_kaiming)

    def encode(self, x: Tensor) -> tuple[Skips, Tensor]:
        """Encode (B, in_channels, H, W) to (B, 128, H/8, W/8) and max-pooling indices."""
        size = (x.shape[-2], x.shape[-1])
        x, indices_half = self.down_quarter(self.encoder_half(self.pad(x)))
        x, indices_quarter = self.down_eighth(self.encoder_quarter(x))
        return Skips((indices_half, indices_quarter), size), self.encoder_eighth(x)

    def decode(self, skips: Skips, bottleneck: Tensor) -> Tensor:
        """Decode (B, 128, h, w) to logits (B, classes, H, W)."""
        indices_half, indices_quarter = skips.features
        x = self.decoder_quarter(self.to_quarter(bottleneck, indices_quarter))
        x = self.decoder_half(self.to_half(x, indices_half))
        logits: Tensor = self.head(x)
        return self.crop(logits, skips)


class Bottleneck(nn.Module):
    """Residual of a 1x1 projection to a quarter, a convolution and an expansion (fig. 2b).

    Parameters
    ----------
    channels
        Input and output channels.
    convolution
        The convolution between the projections, channels/4 to channels/4.
    dropout
        Probability of dropping a channel of the residual.
    """

    def __init__(self, channels: int, convolution: nn.Module, dropout: float) -> None:
        super().__init__()
        inner = channels // 4
        self.residual = nn.Sequential(
            *_bn_prelu(nn.Conv2d(channels, inner, 1, bias=False), inner),
            *_bn_prelu(convolution, inner),
            *_expansion(inner, channels, dropout),
        )
        self.activation = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) -> the same shape."""
        output: Tensor = self.activation(x + self.residual(x))
        return output


class DownsamplingBottleneck(nn.Module):
    """Halve the size; the main branch is the max-pooled input, padded with zero channels.

    Parameters
    ----------
    in_channels, out_channels
        Input and output channels; at least as many output as input channels.
    dropout
        Probability of dropping a channel of the residual.
    """

    def __init__(self, in_channels: int, out_channels: int, dropout: float) -> None:
        super().__init__()
        inner = in_channels // 4
        self.zero_channels = out_channels - in_channels
        self.residual = nn.Sequential(
            *_bn_prelu(nn.Conv2d(in_channels, inner, 2, stride=2, bias=False), inner),
            *_bn_prelu(nn.Conv2d(inner, inner, 3, padding=1, bias=False), inner),
            *_expansion(inner, out_channels, dropout),
        )
        self.activation = nn.PReLU(out_channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, in, H, W) -> (B, out, H/2, W/2) and the indices (B, in, H/2, W/2) of the maxima."""
        pooled, indices = F.max_pool2d(x, 2, return_indices=True)
        main = F.pad(pooled, (0, 0, 0, 0, 0, self.zero_channels))
        return self.activation(main + self.residual(x)), indices


class UpsamplingBottleneck(nn.Module):
    """Double the size; the main branch is a max-unpooling of the projected input.

    Parameters
    ----------
    in_channels
        Input channels.
    out_channels
        Output channels, equal to those of the max-pooling.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        inner = in_channels // 4
        self.project = nn.Sequential(*conv_bn(in_channels, out_channels, 1))
        up = nn.ConvTranspose2d(inner, inner, 2, stride=2, bias=False)
        self.residual = nn.Sequential(
            *_bn_prelu(nn.Conv2d(in_channels, inner, 1, bias=False), inner),
            *_bn_prelu(up, inner),
            *_expansion(inner, out_channels, dropout=0.1),
        )
        self.activation = nn.PReLU(out_channels)

    def forward(self, x: Tensor, indices: Tensor) -> Tensor:
        """(B, in, H, W) and indices (B, out, H, W) -> (B, out, 2H, 2W)."""
        main = F.max_unpool2d(self.project(x), indices, (2, 2))
        output: Tensor = self.activation(main + self.residual(x))
        return output


def _regular(channels: int, dropout: float = 0.1, dilation: int = 1) -> Bottleneck:
    inner = channels // 4
    convolution = nn.Conv2d(inner, inner, 3, padding=dilation, dilation=dilation, bias=False)
    return Bottleneck(channels, convolution, dropout)


def _asymmetric(channels: int) -> Bottleneck:
    inner = channels // 4
    convolution = nn.Sequential(
        nn.Conv2d(inner, inner, (5, 1), padding=(2, 0), bias=False),
        nn.Conv2d(inner, inner, (1, 5), padding=(0, 2), bias=False),
    )
    return Bottleneck(channels, convolution, dropout=0.1)


def _section(channels: int) -> tuple[Bottleneck, ...]:
    """Bottlenecks 2.1 to 2.8 of table 1; section 3 repeats them."""
    return (
        _regular(channels),
        _regular(channels, dilation=2),
        _asymmetric(channels),
        _regular(channels, dilation=4),
        _regular(channels),
        _regular(channels, dilation=8),
        _asymmetric(channels),
        _regular(channels, dilation=16),
    )


def _bn_prelu(convolution: nn.Module, channels: int) -> tuple[nn.Module, ...]:
    return convolution, nn.BatchNorm2d(channels), nn.PReLU(channels)


def _expansion(inner: int, channels: int, dropout: float) -> tuple[nn.Module, ...]:
    return *conv_bn(inner, channels, 1), nn.Dropout2d(dropout)
