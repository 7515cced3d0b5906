"""A minimal network with a skip, and batch norm in encoder and decoder."""

import pytest
import torch
from torch import nn

from src_training.alignment.alignment_network import AlignmentNetwork
from src_training.distillation.base import ForwardOutputs
from src_training.networks.base import SegmentationNetwork, Skips
from tests.distillation.random_outputs import TEACHER, random_outputs


class OneSkip(SegmentationNetwork):
    stride = 2
    taps = {}  # noqa: RUF012 - as the base class declares it

    def __init__(self, width=3):
        super().__init__(1, 2)
        self.bottleneck_channels = 2 * width
        self.encoder = nn.Sequential(nn.Conv2d(1, width, 3, 1, 1), nn.BatchNorm2d(width))
        self.deeper = nn.Conv2d(width, 2 * width, 2, 2)
        self.up = nn.ConvTranspose2d(2 * width, width, 2, 2)
        self.norm = nn.BatchNorm2d(2 * width)
        self.head = nn.Conv2d(2 * width, 2, 1)

    def encode(self, x):
        kept = self.encoder(x).tanh()
        return Skips((kept,), tuple(x.shape[-2:])), self.deeper(kept)

    def decode(self, skips, bottleneck):
        return self.head(self.norm(torch.cat([skips.features[0], self.up(bottleneck)], 1)).tanh())

    @property
    def decoder_parameters(self):
        return [*self.up.parameters(), *self.norm.parameters(), *self.head.parameters()]


@pytest.fixture
def make_pass():
    """Make a `ForwardOutputs`, by default for 8 x 8 images.

    Frozen: in evaluation mode, without gradients.
    """

    def make(seed, frozen=False, width=3, images=None):
        torch.manual_seed(seed)
        network = OneSkip(width)
        images = torch.rand(2, 1, 8, 8) if images is None else images
        grid = (images.shape[-2] // 2, images.shape[-1] // 2)
        alignment = AlignmentNetwork(2 * width, grid, 5, 3).eval().requires_grad_(False)
        if frozen:
            network.eval().requires_grad_(False)
        skips, bottleneck = network.encode(images)
        logits = network.decode(skips, bottleneck)
        views = [alignment.encoder(bottleneck.roll(shift, -1)) for shift in range(3)]
        vectors = torch.stack(views, 1)
        return ForwardOutputs(network, alignment, skips, bottleneck, logits, vectors)

    return make


@pytest.fixture
def both():
    return random_outputs(0, TEACHER), random_outputs(1)
