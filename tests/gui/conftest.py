import gc
from pathlib import Path

import numpy as np
import pytest
import torch
from npe2 import PluginManifest

import napari_msankd
from napari_msankd import settings
from napari_msankd.segment import widget as segment
from napari_msankd.segment.widget import SegmentWidget
from napari_msankd.torch_import import preload
from src_training.data.phantom.camera import fundus_phantom
from src_training.data.preprocessing import IntensityPreprocessing
from src_training.inference.model_card import ModelCard
from src_training.inference.model_file import save_model
from src_training.networks import build_network

PATIENCE = 90_000
"""Timeout for workers, ms; long enough for a busy machine."""

MANIFEST = Path(napari_msankd.__file__).with_name("napari.yaml")


def make_model(
    path: Path, classes=("background", "vessel"), threshold=0.5, channels=1, neighbours=1, **card
) -> Path:
    torch.manual_seed(0)
    preprocessing = IntensityPreprocessing(
        percentiles=(0, 100), channels=channels, neighbours=neighbours
    )
    seen = preprocessing.in_channels
    network = build_network("enet", seen, len(classes)).eval()
    _soften(network, seen)
    card = ModelCard(
        name=path.stem,
        architecture="enet",
        in_channels=seen,
        classes=list(classes),
        preprocessing=preprocessing,
        patch=32,
        threshold=threshold,
        description="Untrained.",
        **card,
    )
    save_model(card, network, path)
    return path


@torch.no_grad()
def _soften(network, channels):
    """Scale the last layer so that probabilities spread over (0, 1) instead of saturating."""
    last = [module for module in network.modules() if hasattr(module, "weight")][-1]
    spread = network(torch.rand(1, channels, 40, 48)).std()
    for parameter in last.parameters():
        parameter /= spread


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    preload()
    return make_model(tmp_path_factory.mktemp("models") / "tiny.safetensors")


@pytest.fixture(autouse=True)
def own_preferences(monkeypatch, tmp_path):
    """Isolate tests from the user's cache and GPU."""
    chosen = settings.Preferences(
        device="cpu", cache=tmp_path / "cache", models=tmp_path / "models"
    )
    monkeypatch.setattr(segment, "preferences", lambda: chosen)
    return chosen


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 255, (40, 48, 3), np.uint8)


@pytest.fixture
def stack():
    return np.random.default_rng(1).random((4, 32, 40), np.float32)


@pytest.fixture
def viewer(make_napari_viewer_proxy):
    # That fixture collects garbage; modules that are imported by now would take most of the time.
    gc.collect()
    gc.freeze()
    return make_napari_viewer_proxy()


@pytest.fixture
def eyes(viewer):
    """Three photographs and their labels."""
    for number in range(3):
        case = fundus_phantom(number, 96, "A")
        viewer.add_image(case.image, name=f"eye {number}", rgb=True)
        viewer.add_labels(case.mask, name=f"eye {number} vessels")
    return viewer


@pytest.fixture
def widget(viewer, model, qtbot):
    """A docked Segment widget with the tiny model chosen."""
    made = SegmentWidget(viewer)
    viewer.window.add_dock_widget(made, name="Segment")
    made.model.open(model)
    yield made
    made.end()
    qtbot.waitUntil(lambda: not made.running and not made.workers, timeout=PATIENCE)


@pytest.fixture
def segmented(widget, qtbot):
    """Press Run and wait for the end; returns the new layer."""

    def press():
        widget.run.click()
        qtbot.waitUntil(lambda: not widget.running, timeout=PATIENCE)
        return widget.result

    return press


@pytest.fixture
def manifest():
    return PluginManifest.from_file(MANIFEST)
