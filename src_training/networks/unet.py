"""Base class of U-Nets: encoder and decoder levels that skips connect."""

import torch.nn.functional as F
from torch import Tensor, nn

from src_training.networks.base import SegmentationNetwork, Skips


class UNet(SegmentationNetwork):
    """A U-Net (arXiv 1505.04597) whose blocks a subclass defines.

    Attributes
    ----------
    encoder
        A block for each level, with 2x2 max-pooling between them.
    decoder
        A block for each level except the deepest, called with (x, skip), deepest
        level first.
    """

    encoder: nn.ModuleList
    decoder: nn.ModuleList

    def encode(self, x: Tensor) -> tuple[Skips, Tensor]:
        """Encode (B, in_channels, H, W) to 1/stride; the skips are at 1, 1/2, and so on."""
        size = (x.shape[-2], x.shape[-1])
        first, *deeper = self.encoder
        features = [first(self.pad(x))]
        for block in deeper:
            features.append(block(F.max_pool2d(features[-1], 2)))
        return Skips(tuple(features[:-1]), size), features[-1]

    def decode(self, skips: Skips, bottleneck: Tensor) -> Tensor:
        """Decode (B, bottleneck_channels, h, w) to logits (B, classes, H, W)."""
        x = bottleneck
        for level, skip in zip(self.decoder, reversed(skips.features), strict=True):
            x = level(x, skip)
        logits: Tensor = self.head(x)
        return self.crop(logits, skips)
