"""Numbers of calls of the expensive steps of one image, because times differ between machines."""

import platform
import subprocess
import sys

import numpy as np
import pytest

from src_training.data.preprocessing import field_of_view, fundus, geometry
from src_training.inference import input_checks, window_resampling
from src_training.inference.image_files import segment_file
from src_training.inference.predictor import Predictor
from src_training.io.images import write_image


@pytest.fixture
def searches(monkeypatch):
    """Searches for a field of view."""
    calls, search = [], field_of_view.find_field_of_view

    def counted(pixels):
        calls.append(pixels.shape)
        return search(pixels)

    for module in (fundus, input_checks):
        monkeypatch.setattr(module, "find_field_of_view", counted)
    return calls


@pytest.fixture
def enlargements(monkeypatch):
    """Shapes of the maps that are resampled to the original grid."""
    calls = []
    of_windows = window_resampling.WindowResampler.to_original
    of_images = geometry.Geometry.to_original

    def windows(self, maps, source, region):
        calls.append(maps.shape)
        return of_windows(self, maps, source, region)

    def images(self, maps, *options, **named):
        calls.append(maps.shape)
        return of_images(self, maps, *options, **named)

    monkeypatch.setattr(window_resampling.WindowResampler, "to_original", windows)
    monkeypatch.setattr(geometry.Geometry, "to_original", images)
    return calls


def photograph(tmp_path):
    y, x = np.ogrid[:150, :180]
    disc = (np.hypot(y - 75, x - 90) < 70)[..., None]
    image = np.random.default_rng(0).integers(120, 220, (150, 180, 3)) * disc
    write_image(path := tmp_path / "photograph.png", image.astype(np.uint8))
    return path


@pytest.mark.parametrize(("mixing", "passes"), [(0.0, 1), (0.4, 2)])
def test_a_photograph_takes_one_search_and_one_resampling(
    tiny_model, tmp_path, searches, enlargements, mixing, passes
):
    model, seen = tiny_model("fundus"), []
    model.card = model.card.model_copy(update={"bn_mixing": mixing})
    model.network.register_forward_hook(lambda *_: seen.append(1))
    segment_file(Predictor(model, "cpu"), photograph(tmp_path), tmp_path / "labels")
    assert len(searches) == 1
    assert [shape[0] for shape in enlargements] == [1], "the foreground alone"
    assert len(seen) == passes


def test_batch_norms_see_bands_of_photographs_and_whole_slices(tiny_model):
    for kind, pixels in (("fundus", 3 / 11 * 640 * 640), ("window", 640 * 640)):
        model, seen = tiny_model(kind), []
        sizes = {"diameter": 600} if kind == "fundus" else {"side": 600}
        preprocessing = model.card.preprocessing.model_copy(update=sizes)
        update = {"bn_mixing": 0.5, "preprocessing": preprocessing}
        model.card = model.card.model_copy(update=update)
        model.network.register_forward_pre_hook(
            lambda _, inputs, seen=seen: seen.append(inputs[0][0, 0].numel())
        )
        y, x = np.ogrid[:600, :600]
        disc = np.where(np.hypot(y - 300, x - 300) < 300, 180, 0).astype(np.uint8)
        Predictor(model, "cpu").predict(disc)
        *adapted, last = seen
        assert sum(adapted) == pytest.approx(pixels, rel=0.05) and last > 600 * 600


def test_many_tiles_are_resampled_once(tiny_model, enlargements):
    image = np.random.default_rng(0).integers(0, 255, (90, 117)).astype(np.uint8)
    tiled = Predictor(tiny_model(side=64), "cpu", tile=40, batch=1)
    tiled.predict(image)
    assert len(enlargements) == 1


def test_a_second_image_copies_no_network(tiny_model, monkeypatch):
    predictor = Predictor(tiny_model(), "cpu")
    image = np.random.default_rng(0).integers(0, 255, (90, 117)).astype(np.uint8)
    first = predictor.predict(image)
    monkeypatch.setattr("copy.deepcopy", None)
    np.testing.assert_array_equal(predictor.predict(image), first)


def test_images_under_way_at_once_do_not_share_statistics(tiny_model):
    model = tiny_model()
    model.card = model.card.model_copy(update={"bn_mixing": 0.5})
    random = np.random.default_rng(0)
    dark, bright = (random.integers(0, top, (90, 117)).astype(np.uint8) for top in (9, 255))
    dark[0, 0] = 255
    predictor = Predictor(model, "cpu", tile=40, batch=4)
    alone = [each.probabilities for each in predictor.tiles(dark)]
    steps = predictor.tiles(dark)
    together = [next(steps).probabilities]
    predictor.predict(bright)
    together += [each.probabilities for each in steps]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc")
def test_memory_that_was_freed_is_not_asked_for_anew():
    # In a process of its own, as the memory of other tests leaves gaps that fit.
    code = """
import resource
from src_training.device import keep_freed_memory

def page_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    [b"1" * (30 * 2**20) for _ in range(3)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

keep_freed_memory()
page_faults()
print(page_faults())
"""
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(result.stdout) < 1000, "of 23,040 pages"
