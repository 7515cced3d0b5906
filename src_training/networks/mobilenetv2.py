"""MobileNetV2 as a student: an encoder to 1/8 and a 1x1 convolution to logits.

Sandler et al., 2018, arXiv 1801.04381, with the strides of EMKD (arXiv 2108.09987).
"""

from typing import ClassVar

from torch import Tensor, nn

from src_training.networks.base import SegmentationNetwork, Skips
from src_training.networks.blocks.channels import check_multiplier, scaled_channels
from src_training.networks.blocks.convolution import init_kaiming, upsample_by
from src_training.networks.blocks.inverted_residual import LAST_CHANNELS, mobilenetv2_encoder

_STAGES = (
    ((1, 16, 1, 1), (6, 24, 2, 1)),
    ((6, 32, 3, 2), (6, 64, 4, 1), (6, 96, 3, 1)),
    ((6, 160, 3, 2), (6, 320, 1, 1)),
)


class MobileNetV2(SegmentationNetwork):
    """A student of EMKD: 2.2 M parameters, bottleneck 1280 channels at 1/8, no skips.

    The taps of the decoder are the logits at the intermediate steps of upsampling.

    Parameters
    ----------
    in_channels, classes
        See `SegmentationNetwork`.
    width
        Multiplier of every channel count, the paper's alpha, from 0.1 to 2.
        *Reconstruction*: it also multiplies the 1280 channels.

    Raises
    ------
    InputError
        If `width` is not from 0.1 to 2.
    """

    stride: ClassVar[int] = 8
    taps: ClassVar[dict[str, str]] = {
        # Output of the first convolution, not of the later blocks at 1/2.
        "encoder_half": "encoder.0.0",
        "encoder_quarter": "encoder.1",
        "encoder_eighth": "encoder.2",
        "bottleneck": "encoder.2",
        "decoder_quarter": "upsample.0",
        "decoder_half": "upsample.1",
    }

    def __init__(self, in_channels: int, classes: int, width: float = 1.0) -> None:
        super().__init__(in_channels, classes)
        check_multiplier("mobilenetv2", width)
        self.bottleneck_channels = scaled_channels(LAST_CHANNELS, width)
        self.encoder = mobilenetv2_encoder(in_channels, width, _STAGES)
        self.head = nn.Conv2d(self.bottleneck_channels, classes, 1)
        self.upsample = upsample_by(self.stride)
        self.apply(init_kaiming)

    def encode(self, x: Tensor) -> tuple[Skips, Tensor]:
        """Encode (B, in_channels, H, W) to (B, bottleneck_channels, H/8, W/8)."""
        size = (x.shape[-2], x.shape[-1])
        x = self.pad(x)
        for stage in self.encoder:
            x = stage(x)
        return Skips((), size), x

    def decode(self, skips: Skips, bottleneck: Tensor) -> Tensor:
        """Decode (B, bottleneck_channels, h, w) to logits (B, classes, H, W)."""
        logits: Tensor = self.upsample(self.head(bottleneck))
        return self.crop(logits, skips)
