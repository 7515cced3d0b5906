"""FANet, the teacher of GKD: a U-Net of selective-kernel blocks and strip attention.

After Li et al., "Accurate retinal vessel segmentation in color fundus images via
fully attention-based networks", IEEE JBHI 2020, doi:10.1109/JBHI.2020.3028180.
"""

from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src_training.networks.blocks.channels import check_width
from src_training.networks.blocks.convolution import conv_bn, conv_bn_relu, init_kaiming
from src_training.networks.unet import UNet

_ENCODER_UNITS = 3
_DECODER_UNITS = 1


class FANet(UNet):
    """Four encoder levels of width, 2, 4 and 8 times width; three decoder levels.

    38.3 M parameters, 41.7 GMAC at 128 x 128 for width 64. *Reconstruction*:
    the paper describes the overall architecture. The units per block (three in
    the encoder, one in the decoder), the kernels (3 and 5) and the 3x3
    convolutions around the attention are chosen to match these published numbers.

    Parameters
    ----------
    in_channels, classes
        See `SegmentationNetwork`.
    width
        Channels at full resolution; 64 is the published teacher. 8 to 16
        train on a CPU.

    Raises
    ------
    InputError
        If `width` is not a positive integer.
    """

    stride: ClassVar[int] = 8
    taps: ClassVar[dict[str, str]] = {
        "encoder_half": "encoder.1",
        "encoder_quarter": "encoder.2",
        "encoder_eighth": "encoder.3",
        "bottleneck": "encoder.3",
        "decoder_quarter": "decoder.0",
        "decoder_quarter_upsampled": "decoder.0.up",
        "decoder_half": "decoder.1",
    }

    def __init__(self, in_channels: int, classes: int, width: int = 64) -> None:
        super().__init__(in_channels, classes)
        check_width("fanet", width)
        widths = [width, 2 * width, 4 * width, 8 * width]
        self.bottleneck_channels = widths[-1]
        self.encoder = nn.ModuleList(
            SelectiveBlock(before, after, _ENCODER_UNITS)
            for before, after in pairwise([in_channels, *widths])
        )
        self.decoder = nn.ModuleList(
            DecoderLevel(before, after) for before, after in pairwise(reversed(widths))
        )
        self.head = nn.Conv2d(width, classes, 1)
        self.apply(init_kaiming)


class SelectiveKernel(nn.Module):
    """A 3x3 and a 5x5 convolution, mixed per channel with weights from global pooling.

    Selective-kernel convolution (Li et al. 2019, arXiv 1903.06586, eq. 1-6).
    The softmax over two branches is implemented as the equivalent sigmoid. The
    squeeze has no batch normalisation, so that batches of one can be trained on.

    Parameters
    ----------
    in_channels, out_channels
        Input and output channels. The squeeze has a sixteenth of the latter,
        at least 32.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.narrow = nn.Sequential(*conv_bn_relu(in_channels, out_channels, 3))
        self.wide = nn.Sequential(*conv_bn_relu(in_channels, out_channels, 5))
        squeezed = max(out_channels // 16, 32)
        self.squeeze = nn.Conv2d(out_channels, squeezed, 1)
        self.select = nn.Conv2d(squeezed, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H, W), >= 0."""
        narrow, wide = self.narrow(x), self.wide(x)
        pooled = narrow.mean((2, 3), keepdim=True) + wide.mean((2, 3), keepdim=True)
        weight = torch.sigmoid(self.select(F.relu(self.squeeze(pooled))))
        return torch.lerp(wide, narrow, weight)


class SelectiveBlock(nn.Module):
    """Selective-kernel units in a row with a 1x1 shortcut (*reconstruction*).

    Parameters
    ----------
    in_channels, out_channels
        Input and output channels.
    units
        Number of units; the first changes the channels to `out_channels`.
    """

    def __init__(self, in_channels: int, out_channels: int, units: int) -> None:
        super().__init__()
        channels = [in_channels] + [out_channels] * units
        self.units = nn.Sequential(
            *(SelectiveKernel(before, after) for before, after in pairwise(channels))
        )
        self.shortcut = nn.Sequential(*conv_bn(in_channels, out_channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H, W), >= 0."""
        return F.relu(self.units(x) + self.shortcut(x))


class StripAttention(nn.Module):
    """Weight each pixel by features pooled over its row and over its column, then convolve.

    Strip pooling (Hou et al. 2020, arXiv 2003.13328, eq. 1-5) replaces FANet's
    dual-direction attention, which also pools along both directions
    (*reconstruction*, as is the final 3x3 convolution).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.rows = _strip(channels, (3, 1))
        self.columns = _strip(channels, (1, 3))
        self.gate = nn.Conv2d(channels, channels, 1)
        self.smooth = nn.Sequential(*conv_bn_relu(channels, channels, 3))

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) -> the same shape, >= 0."""
        rows = self.rows(x.mean(3, keepdim=True))
        columns = self.columns(x.mean(2, keepdim=True))
        output: Tensor = self.smooth(x * torch.sigmoid(self.gate(F.relu(rows + columns))))
        return output


class DecoderLevel(nn.Module):
    """Upsample, concatenate the skip, apply a selective-kernel block and strip attention.

    Parameters
    ----------
    in_channels
        Channels of the input, which has half the size of the skip.
    out_channels
        Channels of the skip and of the output.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.up = nn.Sequential(*conv_bn_relu(in_channels, out_channels, 3))
        self.block = SelectiveBlock(2 * out_channels, out_channels, _DECODER_UNITS)
        self.attention = StripAttention(out_channels)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(B, in, H, W) and its skip (B, out, 2H, 2W) -> (B, out, 2H, 2W)."""
        up = self.up(F.interpolate(x, scale_factor=2.0, mode="bilinear"))
        output: Tensor = self.attention(self.block(torch.cat((up, skip), dim=1)))
        return output


def _strip(channels: int, kernel: tuple[int, int]) -> nn.Sequential:
    padding = (kernel[0] // 2, kernel[1] // 2)
    return nn.Sequential(
        nn.Conv2d(channels, channels, kernel, padding=padding, groups=channels, bias=False),
        nn.BatchNorm2d(channels),
    )
