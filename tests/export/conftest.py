"""A network that is hard to export, its model, and its graph, exported once."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from src_training.data.preprocessing import FundusPreprocessing
from src_training.export import bioimageio
from src_training.export import onnx as onnx_export
from src_training.inference.model_card import ModelCard
from src_training.inference.model_file import SegmentationModel
from src_training.networks.base import SegmentationNetwork, Skips


class Unpooling(SegmentationNetwork):
    """A network of only the operations that are hard to export."""

    stride = 4
    taps = {}  # noqa: RUF012 - as the base class declares it
    bottleneck_channels = 4

    def __init__(self, in_channels, classes):
        super().__init__(in_channels, classes)
        self.stem = nn.Sequential(nn.Conv2d(in_channels, 4, 3, 2, 1), nn.BatchNorm2d(4))
        self.head = nn.ConvTranspose2d(4, classes, 2, 2)

    def encode(self, x):
        pooled, indices = F.max_pool2d(self.stem(self.pad(x)), 2, return_indices=True)
        return Skips((indices,), tuple(x.shape[-2:])), pooled

    def decode(self, skips, bottleneck):
        return self.crop(self.head(F.max_unpool2d(bottleneck, skips.features[0], 2)), skips)


FUNDUS = FundusPreprocessing(diameter=96)


def model_of(network, name, architecture, preprocessing=FUNDUS, **fields):
    card = ModelCard(
        name=name,
        architecture=architecture,
        in_channels=network.in_channels,
        classes=["background", *(f"class {i}" for i in range(1, network.classes))],
        preprocessing=preprocessing,
        patch=32,
        **fields,
    )
    return SegmentationModel(card, network.eval())


@pytest.fixture(scope="session")
def unpooling():
    """A model of one channel and two classes."""
    torch.manual_seed(0)
    return model_of(Unpooling(1, 2), "tiny", "unpooling", licence="CC BY 4.0")


@pytest.fixture(scope="session")
def graph(unpooling):
    """Its graph and the result of its check."""
    for package in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package)
    return onnx_export.checked_graph(unpooling)


@pytest.fixture
def translated(graph, monkeypatch):
    """Make every export use the graph that was exported once."""
    monkeypatch.setattr(onnx_export, "checked_graph", lambda _model: graph)
    monkeypatch.setattr(bioimageio, "checked_graph", lambda _model: graph)
