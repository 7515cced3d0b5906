"""Segmenting a volume slab by slab gives the same labels as segmenting it in memory."""

import dask.array as da
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from src_training.data.slice_context import neighbouring
from src_training.errors import InputError
from src_training.inference.image_threshold import STEPS, quantise
from src_training.inference.predictor import Predictor
from src_training.inference.volumes import slabs as slabs_module
from src_training.inference.volumes.job import VolumeJob
from src_training.inference.volumes.label_store import LabelStore
from src_training.inference.volumes.segment import segment_slabs
from src_training.inference.volumes.slabs import chunk_shape, slabs_along

SHAPE = (7, 24, 20)


@pytest.fixture(autouse=True)
def small_slabs(monkeypatch):
    """Several slabs along every axis."""
    monkeypatch.setattr(slabs_module, "SLAB_VOXELS", 3 * 24 * 20)


@pytest.fixture
def volume():
    return np.random.default_rng(0).uniform(-200, 300, SHAPE).astype(np.float32)


def job(classes=2, **fields):
    return VolumeJob(SHAPE, "noise", "sha", classes, **fields)


def segmented(folder, predictor, voxels, job):
    store = LabelStore(folder, job)
    steps = list(segment_slabs(predictor, voxels, store))
    assert [step.done for step in steps] == list(range(steps[0].done, steps[0].total + 1))
    return np.asarray(store.labels[:])


def slice_maps(predictor, volume, axis):
    """Probabilities (K, Z, Y, X) of all slices along an axis, in memory."""
    count = predictor.model.card.preprocessing.neighbours
    maps = []
    for index in range(volume.shape[axis]):
        pixels = neighbouring(volume, index, count, axis)
        maps.append(predictor.predict(pixels if count > 1 else pixels[..., 0]))
    return np.stack(maps, axis=axis + 1)


@given(st.tuples(*[st.integers(1, 300)] * 3), st.integers(0, 2))
def test_slabs_cover_a_volume_once_and_share_no_chunk(shape, axis):
    slabs = slabs_along(shape, axis)
    assert [slab.start for slab in slabs] == [0, *(slab.stop for slab in slabs[:-1])]
    assert slabs[-1].stop == shape[axis]
    side = chunk_shape(shape, axis)[axis]
    assert all(slab.start % side == 0 for slab in slabs)


def test_a_slab_of_a_longer_volume_is_no_larger(monkeypatch):
    monkeypatch.undo()
    short, long = (slabs_along((depth, 512, 512), 0)[0] for depth in (100, 100_000))
    assert short == long and (short.stop - short.start) * 512**2 * 4 <= 2**26


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("neighbours", [1, 3, 5])
def test_labels_are_those_in_memory_along_every_axis(
    axis, neighbours, volume, tiny_model, tmp_path
):
    predictor = Predictor(tiny_model("window", neighbours=neighbours), "cpu")
    maps = slice_maps(predictor, volume, axis)
    labels = segmented(tmp_path / "labels", predictor, volume, job(axis=axis, threshold=0.6))
    assert np.array_equal(labels, maps[1] >= 0.6) and 0 < labels.mean() < 1


@pytest.mark.parametrize("kind", ["dask", "zarr"])
def test_lazy_volumes_have_the_labels_of_those_in_memory(kind, volume, tiny_model, tmp_path):
    predictor = Predictor(tiny_model("window"), "cpu")
    lazy = {
        "dask": lambda: da.from_array(volume, chunks=(2, 10, 20)),
        "zarr": lambda: zarr.array(volume, chunks=(4, 8, 8)),
    }[kind]()
    labels = segmented(tmp_path / "lazy", predictor, lazy, job())
    assert np.array_equal(labels, segmented(tmp_path / "array", predictor, volume, job()))


@pytest.mark.parametrize("classes", [2, 3])
def test_three_axes_are_averaged_by_voxel(classes, volume, tiny_model, tmp_path):
    predictor = Predictor(tiny_model("window", classes=classes), "cpu")
    steps = [quantise(slice_maps(predictor, volume, axis)).astype(int) for axis in range(3)]
    total = np.sum(steps, axis=0)
    expected = total.argmax(0) if classes > 2 else total[1] >= 3 * 0.5 * STEPS
    orthogonal = job(classes, orthogonal=True, threshold=0.5 if classes == 2 else None)
    assert np.array_equal(segmented(tmp_path / "o", predictor, volume, orthogonal), expected)


class CountedVolume:
    """A volume that counts how often it is read, and fails at one of the reads."""

    def __init__(self, volume, fails_at=None):
        self.volume, self.fails_at, self.reads = volume, fails_at, 0
        self.shape = volume.shape

    def __getitem__(self, region):
        self.reads += 1
        if self.reads == self.fails_at:
            raise ValueError("chunk c/3/0/0 has a wrong checksum")
        return self.volume[region]


@pytest.mark.parametrize("orthogonal", [False, True])
def test_resuming_does_what_is_pending_and_ends_the_same(orthogonal, volume, tiny_model, tmp_path):
    predictor = Predictor(tiny_model("window"), "cpu")
    wanted = job(orthogonal=orthogonal, threshold=0.5)
    whole, slabs = CountedVolume(volume), LabelStore(tmp_path / "n", wanted).slabs
    expected = segmented(tmp_path / "whole", predictor, whole, wanted)
    assert whole.reads == len(slabs)
    broken = CountedVolume(volume, fails_at=3)
    with pytest.raises(InputError, match=r"slices 6 to 6 along z cannot be read \(chunk c/3"):
        segmented(tmp_path / "parts", predictor, broken, wanted)
    rest = CountedVolume(volume)
    assert np.array_equal(segmented(tmp_path / "parts", predictor, rest, wanted), expected)
    assert rest.reads == whole.reads - 2
