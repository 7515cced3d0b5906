"""The smallest network with a stride, a bottleneck and BatchNorm."""

import pytest
import torch
from torch import nn

from src_training.data.preprocessing import (
    FundusPreprocessing,
    IntensityPreprocessing,
    WindowPreprocessing,
)
from src_training.inference.model_card import ModelCard
from src_training.inference.model_file import SegmentationModel
from src_training.networks import NETWORKS, NetworkSpec
from src_training.networks.base import SegmentationNetwork, Skips


class Tiny(SegmentationNetwork):
    stride = 4
    taps = {}  # noqa: RUF012 - as the base class declares it
    bottleneck_channels = 8

    def __init__(self, in_channels, classes, width=8):
        super().__init__(in_channels, classes)
        self.down = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, 2, 1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, 2, 1),
        )
        self.up = nn.Sequential(
            nn.ConvTranspose2d(width, width, 4, 4), nn.Conv2d(width, classes, 3, 1, 1)
        )

    def encode(self, x):
        return Skips((), tuple(x.shape[-2:])), self.down(self.pad(x))

    def decode(self, skips, bottleneck):
        height, width = skips.size
        return self.up(bottleneck)[..., :height, :width]


PREPROCESSING = {
    "fundus": FundusPreprocessing,
    "intensity": IntensityPreprocessing,
    "window": WindowPreprocessing,
}
DEFAULTS = {"fundus": {"diameter": 96}, "intensity": {"percentiles": (0, 100)}, "window": {}}


@pytest.fixture
def tiny_model(monkeypatch):
    """Create models with random weights and running statistics."""
    spec = NetworkSpec(Tiny, parameters=0, suits="tests", citation="none")
    monkeypatch.setitem(NETWORKS, "tiny", spec)

    def make(kind="intensity", classes=2, seed=0, **fields):
        torch.manual_seed(seed)
        preprocessing = PREPROCESSING[kind](**(DEFAULTS[kind] | fields))
        channels = preprocessing.in_channels
        network = Tiny(channels, classes)
        network(torch.rand(4, channels, 32, 32))
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(3)
        card = ModelCard(
            name="tiny",
            architecture="tiny",
            options={"width": 8},
            in_channels=channels,
            classes=["background", "vessel", "lesion"][:classes],
            preprocessing=preprocessing,
            patch=32,
        )
        return SegmentationModel(card, network.eval())

    return make
