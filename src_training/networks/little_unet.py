"""Little U-Net and W-Net: U-Nets with few channels.

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

    34 k parameters for width 8 and depth 3. With depth 3 the bottleneck is at 1/4
    of the resolution. Then the taps ``encoder_eighth`` and ``decoder_quarter`` are
    2 x 2 averages of the bottleneck and of the input of the decoder's first block
    (*reconstruction*).

    Parameters
    ----------
    in_channels, classes
        See `SegmentationNetwork`.
    width
        Channels at full resolution, doubled at each level; 8 as published.
    depth
        Levels, 3 to 6; 3 as published. More levels give a larger receptive field.

    Raises
    ------
    InputError
        If `width` is not a positive integer, or `depth` is not an integer from 3 to 6.
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
        # Both are class variables of every other network; here they depend on the depth.
        self.stride = 2 ** (depth - 1)  # type: ignore[misc]
        self.taps = _taps(depth)  # type: ignore[misc]
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
    """Two Little U-Nets; the second one sees the image and the logits of the `first`.

    68 k parameters for width 8 and depth 3. Encoder, bottleneck and decoder are
    those of the second. The first is trained with the same supervised losses at
    the same weight; its logits are the tap ``auxiliary_logits``.

    Parameters
    ----------
    in_channels, classes
        See `SegmentationNetwork`.
    width, depth
        Width and depth of both U-Nets; see `LittleUNet`.

    Raises
    ------
    InputError
        See `LittleUNet`.
    """

    def __init__(self, in_channels: int, classes: int, width: int = 8, depth: int = 3) -> None:
        super().__init__(in_channels + classes, classes, width, depth)
        self.in_channels = in_channels
        self.first = LittleUNet(in_channels, classes, width, depth)
        self.taps = {**self.taps, "auxiliary_logits": "first.head"}  # type: ignore[misc]

    def encode(self, x: Tensor) -> tuple[Skips, Tensor]:
        """Encode (B, in_channels, H, W) and the first U-Net's logits by the second U-Net."""
        size = (x.shape[-2], x.shape[-1])
        padded = self.pad(x)
        skips, bottleneck = super().encode(torch.cat((padded, self.first(padded)), dim=1))
        return skips._replace(size=size), bottleneck


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, each followed by ReLU and batch normalisation, and a 1x1 shortcut.

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
        output: Tensor = self.residual(x)
        # In place: large memory that is asked for anew costs more than the sum.
        return output.add_(self.shortcut(x))


class DecoderLevel(nn.Module):
    """Upsample, concatenate the skip after a convolution, apply a residual block.

    Parameters
    ----------
    in_channels
        Channels of the input, which has half the size of the skip.
    out_channels
        Channels of the skip and of the output.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2)
        self.bridge = nn.Sequential(*_conv_relu_bn(out_channels, out_channels))
        self.joined = nn.Identity()  # A submodule that a tap can refer to.
        self.block = ResidualBlock(2 * out_channels, out_channels)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(B, in, H, W) and its skip (B, out, 2H, 2W) -> (B, out, 2H, 2W)."""
        output: Tensor = self.block(self.joined(torch.cat((self.up(x), self.bridge(skip)), 1)))
        return output


def _conv_relu_bn(in_channels: int, out_channels: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(in_channels, out_channels, 3, padding=1)
    return convolution, nn.ReLU(inplace=True), nn.BatchNorm2d(out_channels)


def _taps(depth: int) -> dict[str, str]:
    """Tap -> path of its module; see `LittleUNet` for depth 3."""
    last = depth - 1
    return {
        "encoder_half": "encoder.1",
        "encoder_quarter": "encoder.2",
        "encoder_eighth": f"encoder.{min(3, last)}",
        "bottleneck": f"encoder.{last}",
        "decoder_quarter": "decoder.0.joined" if depth == 3 else f"decoder.{last - 3}",
        "decoder_half": f"decoder.{last - 2}",
    }
