"""Labels that grow portion by portion are those of the whole volume in memory."""

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
from src_training.inference.volumes import slabs as portions_module
from src_training.inference.volumes.job import Plan
from src_training.inference.volumes.label_store import LabelStore
from src_training.inference.volumes.slabs import chunks, slabs_of
from src_training.inference.volumes.streaming import stream

SHAPE = (7, 24, 20)


@pytest.fixture(autouse=True)
def small_portions(monkeypatch):
    """Several portions along every axis."""
    monkeypatch.setattr(portions_module, "_VOXELS", 3 * 24 * 20)


@pytest.fixture
def volume():
    return np.random.default_rng(0).uniform(-200, 300, SHAPE).astype(np.float32)


def plan(classes=2, **wishes):
    return Plan(SHAPE, "noise", "sha", classes, **wishes)


def grown(folder, predictor, voxels, plan):
    growing = LabelStore(folder, plan)
    steps = list(stream(predictor, voxels, growing))
    assert [step.done for step in steps] == list(range(steps[0].done, steps[0].total + 1))
    return np.asarray(growing.labels[:])


def plane_maps(predictor, volume, axis):
    """Probabilities (K, Z, Y, X) of all planes along an axis, in memory."""
    count = predictor.model.card.preprocessing.neighbours
    maps = []
    for index in range(volume.shape[axis]):
        plane = neighbouring(volume, index, count, axis)
        maps.append(predictor.predict(plane if count > 1 else plane[..., 0]))
    return np.stack(maps, axis=axis + 1)


@given(st.tuples(*[st.integers(1, 300)] * 3), st.integers(0, 2))
def test_portions_cover_a_volume_once_and_share_no_chunk(shape, axis):
    found = slabs_of(shape, axis)
    assert [each.start for each in found] == [0, *(each.stop for each in found[:-1])]
    assert found[-1].stop == shape[axis]
    side = chunks(shape, axis)[axis]
    assert all(each.start % side == 0 for each in found)


def test_a_portion_of_a_longer_volume_is_no_larger(monkeypatch):
    monkeypatch.undo()
    short, long = (slabs_of((depth, 512, 512), 0)[0] for depth in (100, 100_000))
    assert short == long and (short.stop - short.start) * 512**2 * 4 <= 2**26


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("neighbours", [1, 3, 5])
def test_labels_are_those_in_memory_along_every_axis(
    axis, neighbours, volume, tiny_model, tmp_path
):
    predictor = Predictor(tiny_model("window", neighbours=neighbours), "cpu")
    maps = plane_maps(predictor, volume, axis)
    found = grown(tmp_path / "grown", predictor, volume, plan(axis=axis, threshold=0.6))
    assert np.array_equal(found, maps[1] >= 0.6) and 0 < found.mean() < 1


@pytest.mark.parametrize("kind", ["dask", "zarr"])
def test_lazy_volumes_give_the_labels_of_those_in_memory(kind, volume, tiny_model, tmp_path):
    predictor = Predictor(tiny_model("window"), "cpu")
    lazy = {
        "dask": lambda: da.from_array(volume, chunks=(2, 10, 20)),
        "zarr": lambda: zarr.array(volume, chunks=(4, 8, 8)),
    }[kind]()
    found = grown(tmp_path / "lazy", predictor, lazy, plan())
    assert np.array_equal(found, grown(tmp_path / "there", predictor, volume, plan()))


@pytest.mark.parametrize("classes", [2, 3])
def test_three_axes_are_averaged_by_voxel(classes, volume, tiny_model, tmp_path):
    predictor = Predictor(tiny_model("window", classes=classes), "cpu")
    steps = [quantise(plane_maps(predictor, volume, axis)).astype(int) for axis in range(3)]
    total = np.sum(steps, axis=0)
    wanted = total.argmax(0) if classes > 2 else total[1] >= 3 * 0.5 * STEPS
    made = plan(classes, orthogonal=True, threshold=0.5 if classes == 2 else None)
    assert np.array_equal(grown(tmp_path / "o", predictor, volume, made), wanted)


class Counted:
    """A volume that counts what is read of it, and breaks where it is told to."""

    def __init__(self, volume, breaks_at=None):
        self.volume, self.breaks_at, self.read = volume, breaks_at, 0
        self.shape = volume.shape

    def __getitem__(self, region):
        self.read += 1
        if self.read == self.breaks_at:
            raise ValueError("chunk c/3/0/0 has a wrong checksum")
        return self.volume[region]


@pytest.mark.parametrize("orthogonal", [False, True])
def test_what_is_done_is_not_done_again_and_the_end_is_the_same(
    orthogonal, volume, tiny_model, tmp_path
):
    predictor = Predictor(tiny_model("window"), "cpu")
    made = plan(orthogonal=orthogonal, threshold=0.5)
    whole, reads = Counted(volume), LabelStore(tmp_path / "n", made).every
    wanted = grown(tmp_path / "whole", predictor, whole, made)
    assert whole.read == len(reads)
    broken = Counted(volume, breaks_at=3)
    with pytest.raises(InputError, match=r"planes 6 to 6 along z cannot be read \(chunk c/3"):
        grown(tmp_path / "parts", predictor, broken, made)
    rest = Counted(volume)
    assert np.array_equal(grown(tmp_path / "parts", predictor, rest, made), wanted)
    assert rest.read == whole.read - 2


def test_labels_begun_with_another_model_are_not_gone_on_with(volume, tiny_model, tmp_path):
    LabelStore(tmp_path / "begun", plan())
    with pytest.raises(InputError, match=r"begun with threshold None, not 0\.3; expected the same"):
        LabelStore(tmp_path / "begun", plan(threshold=0.3))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").touch()
    with pytest.raises(InputError, match="other holds something else"):
        LabelStore(tmp_path / "other", plan())
