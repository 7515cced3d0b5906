"""A 2.5-D student of a file, and volumes for it."""

import numpy as np
import pytest
import torch
import zarr

from src_training.data.preprocessing import WindowPreprocessing
from src_training.inference.model_card import ModelCard
from src_training.inference.model_file import SegmentationModel
from src_training.networks import build_network


@pytest.fixture(scope="session")
def liver_file(tmp_path_factory):
    """A tiny student of three neighbouring slices with random weights."""
    torch.manual_seed(3)
    network = build_network("fanet", 3, 2, width=2)
    with torch.no_grad():
        for _ in range(20):
            network(torch.rand(4, 3, 64, 64))
    card = ModelCard(
        name="liver",
        architecture="fanet",
        options={"width": 2},
        in_channels=3,
        classes=["background", "liver"],
        preprocessing=WindowPreprocessing(window="liver", neighbours=3),
        patch=32,
    )
    path = tmp_path_factory.mktemp("models") / "liver.safetensors"
    SegmentationModel(card, network.eval()).save(path)
    return path


@pytest.fixture
def ct(tmp_path):
    """Make a zarr array (Z, Y, X) of noise in HU, in chunks of some slices."""

    def make(shape=(20, 24, 28), chunk=5, name="ct.zarr"):
        noise = np.random.default_rng(1).integers(-200, 300, shape).astype(np.int16)
        array = zarr.create_array(
            tmp_path / name, shape=shape, chunks=(chunk, *shape[1:]), dtype="int16"
        )
        array[:] = noise
        return array

    return make
