"""Random forward outputs (taps, logits, masks), small enough for loops over pixels."""

import torch

from src_training.distillation.base import ForwardOutputs
from src_training.networks.base import Skips

BATCH, CLASSES, SIDE, VIEWS = 2, 3, 16, 2
SCALES = {
    "encoder_half": 2,
    "encoder_quarter": 4,
    "encoder_eighth": 8,
    "decoder_quarter": 4,
    "decoder_half": 2,
}
TEACHER = dict(zip(SCALES, (4, 5, 6, 5, 4), strict=True))
STUDENT = dict(zip(SCALES, (3, 4, 5, 4, 3), strict=True))


def random_outputs(seed, channels=STUDENT, dtype=torch.float64, side=SIDE, batch=BATCH):
    """Random logits (B, CLASSES, side, side), logits of views and plain patches, and taps."""
    random = torch.Generator().manual_seed(seed)

    def noise(count, scale):
        size = (batch, count, side // scale, side // scale)
        return torch.randn(size, generator=random, dtype=torch.float64).to(dtype)

    taps = {tap: noise(channels[tap], scale) for tap, scale in SCALES.items()}
    nothing = torch.zeros(batch, 1, 1, 1, dtype=dtype)
    logits = noise(CLASSES, 1)
    of_views = noise(VIEWS * CLASSES, 1).unflatten(1, (VIEWS, CLASSES))
    skips, plain, mixed = Skips((), (side, side)), noise(CLASSES, 1), noise(CLASSES, 1)
    return ForwardOutputs(None, None, skips, nothing, logits, None, taps, of_views, plain, mixed)


def random_masks(seed=0, side=SIDE, batch=BATCH, classes=CLASSES):
    random = torch.Generator().manual_seed(seed)
    return torch.randint(classes, (batch, side, side), generator=random)
