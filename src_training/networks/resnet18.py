"""ResNet-18 as a student: an encoder to 1/32 and a 1x1 convolution to logits.

He et al., CVPR 2016, arXiv 1512.03385, as in EMKD (arXiv 2108.09987).
"""

from typing import ClassVar

from torch import Tensor, nn

from src_training.networks.base import SegmentationNetwork, Skips
from src_training.networks.blocks.channels import check_width
from src_training.networks.blocks.convolution import init_kaiming, upsample_by
from src_training.networks.blocks.residual import BasicBlock, ResidualEncoder


class ResNet18(SegmentationNetwork):
    """A student of EMKD: 11.2 M parameters, bottleneck 512 channels at 1/32, no skips.

    The taps of the decoder are the logits at the intermediate steps of upsampling.

    Parameters
    ----------
    in_channels, classes
        See `SegmentationNetwork`.
    width
        Channels at 1/2; 64 as published, 8 to 16 train on a CPU.

    Raises
    ------
    InputError
        If `width` is not a positive integer.
    """

    stride: ClassVar[int] = 32
    taps: ClassVar[dict[str, str]] = {
        "encoder_half": "encoder.stem",
        "encoder_quarter": "encoder.stages.0",
        "encoder_eighth": "encoder.stages.1",
        "bottleneck": "encoder.stages.3",
        "decoder_eighth": "upsample.1",
        "decoder_quarter": "upsample.2",
        "decoder_half": "upsample.3",
    }

    def __init__(self, in_channels: int, classes: int, width: int = 64) -> None:
        super().__init__(in_channels, classes)
        check_width("resnet18", width)
        self.encoder = ResidualEncoder(in_channels, width, BasicBlock, (2, 2, 2, 2))
        self.bottleneck_channels = self.encoder.channels
        self.head = nn.Conv2d(self.bottleneck_channels, classes, 1)
        self.upsample = upsample_by(self.stride)
        self.apply(init_kaiming)

    def encode(self, x: Tensor) -> tuple[Skips, Tensor]:
        """Encode (B, in_channels, H, W) to (B, 8 width, H/32, W/32)."""
        size = (x.shape[-2], x.shape[-1])
        return Skips((), size), self.encoder(self.pad(x))[-1]

    def decode(self, skips: Skips, bottleneck: Tensor) -> Tensor:
        """Decode (B, 8 width, h, w) to logits (B, classes, H, W)."""
        logits: Tensor = self.upsample(self.head(bottleneck))
        return self.crop(logits, skips)
