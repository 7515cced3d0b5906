"""What costs what: ratios measured in one run, so that they carry to other machines.

``make bench`` prints them; nothing here passes or fails.
"""

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import scipy.linalg
import torch
from numpy.typing import NDArray

from src_training.data.phantom.camera import fundus_phantom
from src_training.data.preprocessing import IntensityPreprocessing
from src_training.explore.fsd import frechet_distance
from src_training.inference.model_card import ModelCard
from src_training.inference.model_file import SegmentationModel
from src_training.inference.predictor import Predictor
from src_training.networks import SegmentationNetwork, build_network

PATCH, WIDTH = 128, 8


def seconds(work: Callable[[], object], repeats: int = 5) -> float:
    """The fastest of some repeats, after one to warm up."""
    work()
    took = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return min(took)


def settled(network: SegmentationNetwork) -> SegmentationNetwork:
    """The network with running statistics of real size: fresh ones distort timings."""
    network.train()
    for _ in range(10):
        network(torch.rand(4, 1, PATCH, PATCH))
    return network.eval()


def inference() -> None:
    """Students against the small CPU teacher, on one image."""
    image = torch.rand(1, 1, 512, 512)
    networks = {name: build_network(name, 1, 2) for name in ("enet", "erfnet", "mobile_unet")}
    networks["fanet, width 8"] = build_network("fanet", 1, 2, width=WIDTH)
    took = {}
    for name, network in networks.items():
        with torch.inference_mode():
            took[name] = seconds(partial(settled(network), image))
    for name, time_taken in took.items():
        print(f"one 512x512 image, {name}: {time_taken / took['enet']:.2f} x enet")


def tiling() -> None:
    """Tiles with overlap against the whole image in one pass."""
    preprocessing = IntensityPreprocessing(percentiles=(0, 100))
    card = ModelCard(
        name="bench",
        architecture="enet",
        in_channels=1,
        classes=["background", "vessel"],
        preprocessing=preprocessing,
        patch=256,
    )
    model = SegmentationModel(card, settled(build_network("enet", 1, 2)))
    image = fundus_phantom(0, 768).image
    whole = seconds(lambda: Predictor(model, "cpu").predict(image), 3)
    tiled = seconds(lambda: Predictor(model, "cpu", tile=256).predict(image), 3)
    print(f"768x768 in tiles of 256, overlap 0.25: {tiled / whole:.2f} x the whole-image pass")


def semantic_distance() -> None:
    """FSD against scipy's square root of a matrix, on vectors of 512 components."""
    random = np.random.default_rng(0)
    mixing = random.normal(size=(512, 512)) / 512**0.5
    for count in (2000, 256):
        a, b = (random.normal(size=(count, 512)) @ mixing + shift for shift in (0.0, 0.1))
        own = partial(frechet_distance, a, b, "empirical", interval=False)
        ratio = seconds(partial(by_sqrtm, a, b), 3) / seconds(own, 3)
        print(f"FSD of 2 x {count} vectors: {ratio:.1f} x faster than by scipy.linalg.sqrtm")


def by_sqrtm(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """The textbook formula."""
    first, second = (np.cov(rows, rowvar=False) for rows in (a, b))
    shift = ((a.mean(0) - b.mean(0)) ** 2).sum()
    root = scipy.linalg.sqrtm(first @ second).real
    return float(shift + np.trace(first + second - 2 * root))


if __name__ == "__main__":
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, on the CPU")
    inference()
    tiling()
    semantic_distance()
