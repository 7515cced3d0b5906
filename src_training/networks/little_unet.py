"""Little U-Net and W-Net: few channels at full resolution.

Galdran et al., "State-of-the-art retinal vessel segmentation with minimalistic
models", Sci Rep 2022, doi:10.1038/s41598-022-09675-y.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from src_training.errors import InputError
from src_training.networks.base import Skips
from src_training.networks.blocks.channels import check_width
from src_training.networks.blocks.convolution import init_kaiming
from src_training.networks.unet import UNet

_DEPTHS = range(3, 7)


class LittleUNet(UNet):
    """A U-Net of residual blocks, with a convolution on each skip.

    34 k parameters of width 8 and depth 3. Its bottleneck lies at 1/4 there: the
    taps ``encoder_eighth`` and ``decoder_quarter`` are then means over 2 x 2 of the
    bottleneck, and of what the decoder's first block sees (*reconstruction*).

    Parameters
    ----------
    in_channels, classes
        See `SegmentationNetwork`.
    width
        Channels at full resolution, doubled with each level; 8 as published.
    depth
        Levels, 3 to 6; 3 as published. More see more of large structures.

    Raises
    ------
    InputError
        If `width` is not a positive integer, or `depth` not one from 3 to 6.
    """

    def __init__(self, in_channels: int, classes: int, width: int = 8, depth: int = 3) -> None:
        super().__init__(in_channels, classes)
        check_width("little_unet", width)
        if type(depth) is not int or depth not in _DEPTHS:
            raise InputError(
                f"little_unet: option depth is {depth!r}; "
                f"expected an integer from {_DEPTHS[0]} to {_DEPTHS[-1]}."
            )
        widths = [width * 2**level for level in range(depth)]
        self.stride = 2 ** (depth - 1)  # type: ignore[misc]  # of every other network a constant
        self.taps = _taps(depth)  # type: ignore[misc]  # as above
        self.pooled_taps = {"encoder_eighth": 2, "decoder_quarter": 2} if depth == 3 else {}
        self.bottleneck_channels = widths[-1]
        self.encoder = nn.ModuleList(
            ResidualBlock(before, after) for before, after in pairwise([in_channels, *widths])
        )
        self.decoder = nn.ModuleList(
            DecoderLevel(before, after) for before, after in pairwise(reversed(widths))
        )
        self.head = nn.Conv2d(width, classes, 1)
        self.apply(init_kaiming)


class WNet(LittleUNet):
    """Two Little U-Nets; this one sees, beside the image, the logits of the `first`.

    68 k parameters of width 8 and depth 3. Encoder, bottleneck and decoder are
    those of the second. The first learns from the masks, too, with the same
    weight: its logits are the tap ``auxiliary_logits``.

    Parameters
    ----------
    in_channels, classes
        See `SegmentationNetwork`.
    width, depth
        Of both; see `LittleUNet`.

    Raises
    ------
    InputError
        As `LittleUNet`.
    """

    def __init__(self, in_channels: int, classes: int, width: int = 8, depth: int = 3) -> None:
        super().__init__(in_channels + classes, classes, width, depth)
        self.in_channels = in_channels
        self.first = LittleUNet(in_channels, classes, width, depth)
        self.taps = {**self.taps, "auxiliary_logits": "first.head"}  # type: ignore[misc]

    def encode(self, x: Tensor) -> tuple[Skips, Tensor]:
        """Encode (B, in_channels, H, W) as the second U-Net does, with the first's logits."""
        size = (x.shape[-2], x.shape[-1])
        padded = self.pad(x)
        skips, bottleneck = super().encode(torch.cat((padded, self.first(padded)), dim=1))
        return skips._replace(size=size), bottleneck


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, each with ReLU and then batch normalisation, beside a 1x1 shortcut.

    Parameters
    ----------
    in_channels, out_channels
        Input and output channels.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            *_conv_relu_bn(in_channels, out_channels), *_conv_relu_bn(out_channels, out_channels)
        )
        self.shortcut = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H, W)."""
        output: Tensor = self.residual(x) + self.shortcut(x)
        return output


class DecoderLevel(nn.Module):
    """Double the size, concatenate the skip after a convolution of its own, a residual block.

    Parameters
    ----------
    in_channels
        Input channels, of half the size.
    out_channels
        Channels of the skip and of the output.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2)
        self.bridge = nn.Sequential(*_conv_relu_bn(out_channels, out_channels))
        self.joined = nn.Identity()  # A place for a tap.
        self.block = ResidualBlock(2 * out_channels, out_channels)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(B, in, H, W) and its skip (B, out, 2H, 2W) -> (B, out, 2H, 2W)."""
        output: Tensor = self.block(self.joined(torch.cat((self.up(x), self.bridge(skip)), 1)))
        return output


def _conv_relu_bn(in_channels: int, out_channels: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(in_channels, out_channels, 3, padding=1)
    return convolution, nn.ReLU(inplace=True), nn.BatchNorm2d(out_channels)


def _taps(depth: int) -> dict[str, str]:
    """Tap -> path of its module, see `LittleUNet` on those of depth 3."""
    last = depth - 1
    return {
        "encoder_half": "encoder.1",
        "encoder_quarter": "encoder.2",
        "encoder_eighth": f"encoder.{min(3, last)}",
        "bottleneck": f"encoder.{last}",
        "decoder_quarter": "decoder.0.joined" if depth == 3 else f"decoder.{last - 3}",
        "decoder_half": f"decoder.{last - 2}",
    }
