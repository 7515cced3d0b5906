"""What costs what: ratios measured in one run, so that they carry to other machines.

``make bench`` prints them; nothing here passes or fails.
"""

import time
from collections.abc import Callable
from functools import partial

import torch

from src_training.alignment.msan import AlignmentNetwork
from src_training.data.patches import Batch
from src_training.data.phantom import fundus_phantom
from src_training.data.preprocess import Preprocessing
from src_training.distillation.dcgd import DualContrastiveGraphs
from src_training.distillation.dicd import CrossDistillation
from src_training.inference.model import ModelCard, SegmentationModel
from src_training.inference.predictor import Predictor
from src_training.networks import SegmentationNetwork, build_network
from src_training.training.distilling import Distil

PATCH, SAMPLES, VIEWS, WIDTH = 128, 4, 4, 8


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
    preprocessing = Preprocessing(kind="minmax")
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


def distillation() -> None:
    """A whole GKD step against the network passes that it cannot do without."""
    torch.manual_seed(0)
    teacher, student = build_network("fanet", 1, 2, width=WIDTH), build_network("enet", 1, 2)
    grid = (PATCH // 8, PATCH // 8)
    tan, san = (AlignmentNetwork(n.bottleneck_channels, grid) for n in (teacher, student))
    methods = [DualContrastiveGraphs(), CrossDistillation()]
    stage = Distil((student, san), (teacher, tan), methods, {}, VIEWS, "dice_ce").train()
    anchors, views = (torch.rand(n, 1, PATCH, PATCH) for n in (SAMPLES, SAMPLES * VIEWS))
    batch = Batch(anchors, torch.randint(2, (SAMPLES, PATCH, PATCH)), views)
    images = torch.cat([anchors, views])

    def step() -> None:
        stage.total(stage(batch)).backward()

    def passes() -> None:
        with torch.no_grad():
            teacher.encode(images)
            teacher(anchors)
        bottleneck = student.encode(images)[1]
        (student(anchors).sum() + bottleneck.sum()).backward()

    print(f"a GKD step: {seconds(step, 3) / seconds(passes, 3):.2f} x its network passes")


if __name__ == "__main__":
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, on the CPU")
    inference()
    tiling()
    distillation()
