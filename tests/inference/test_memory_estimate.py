import subprocess
import sys

import pytest
import torch

from src_training.inference.memory_estimate import bytes_per_pixel
from src_training.inference.predictor import Predictor

MEASURE = """
import ctypes, sys
import numpy as np, torch
from src_training.data.preprocessing import IntensityPreprocessing
from src_training.inference.model_card import ModelCard
from src_training.inference.model_file import SegmentationModel
from src_training.inference.predictor import Predictor

torch.set_num_threads(1)
card = ModelCard(name="a", architecture=sys.argv[1], in_channels=1, classes=["a", "b"],
                 preprocessing=IntensityPreprocessing(percentiles=(0, 100)), patch=256)
predictor = Predictor(SegmentationModel(card, card.build().eval()), "cpu")
image = np.random.default_rng(0).integers(0, 255, (900, 900, 3)).astype(np.uint8)
predictor.predict(image[:64, :64])


def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


def used():
    # Memory that the process has freed but not returned would be reused without being measured.
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    before = peak()
    predictor.predict(image)
    return peak() - before


print(predictor.memory(image.shape), max(used() for _ in range(4)))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("name", ["enet", "mobile_unet", "wnet"])
def test_the_estimate_is_right_within_a_factor_of_two(name):
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, name], capture_output=True, text=True, check=True
    )
    estimated, used = map(int, run.stdout.split())
    assert used / 2 < estimated < used * 2


def test_live_activations_of_a_known_network_are_counted_exactly():
    """Two convolutions alive in pairs: 8 + 8 channels of float32 per pixel at most."""

    class Pair(torch.nn.Sequential):
        stride, in_channels = 4, 1

    pair = Pair(*(torch.nn.Conv2d(c, 8, 1) for c in (1, 8, 8)))
    assert bytes_per_pixel(pair) == 2 * 8 * 4


def test_memory_is_bounded_by_the_tile_batch_and_the_maps(tiny_model):
    small = Predictor(tiny_model(), "cpu", tile=64, batch=1).memory((4000, 4000))
    large = Predictor(tiny_model(), "cpu", tile=64, batch=64).memory((4000, 4000))
    whole = Predictor(tiny_model(), "cpu", tile=4000).memory((4000, 4000))
    assert small <= large < whole
    maps_of_two = 4 * 4000 * 4000 * 2
    assert small < 8 * maps_of_two


def test_a_fundus_of_any_size_is_prepared_to_one_diameter(tiny_model):
    predictor = Predictor(tiny_model("fundus", diameter=320), "cpu")
    assert predictor.memory((300, 300)) < predictor.memory((3000, 3000, 3)) < 100 * 3000 * 3000
