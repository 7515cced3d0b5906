"""What networks without a decoder end with: class scores, brought to the image's size."""

from torch import nn


def upsample_by(stride: int) -> nn.Sequential:
    """Bilinear enlargement by `stride`, two by two, so that there is a feature at each scale.

    *Reconstruction*: EMKD's networks enlarge at once, and have no features between.
    """
    count = stride.bit_length() - 1
    return nn.Sequential(*(nn.Upsample(scale_factor=2.0, mode="bilinear") for _ in range(count)))
