import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_msankd.planes import Slicing
from napari_msankd.segment.probability_store import Result, new_folder
from src_training.inference.image_threshold import STEPS, expected_dice_threshold, quantise
from src_training.inference.predictor import labels_from

probabilities = arrays(np.float32, (6, 7), elements=st.floats(0, 1, width=32))
percent = st.integers(1, 99).map(lambda value: value / 100)


def maps_of(foreground):
    return np.stack([1 - foreground, foreground])


def everywhere(shape=(6, 7)):
    return tuple(slice(0, side) for side in shape)


def same_but_at_the_step(labels, foreground, threshold):
    """Whether labels are equal, except where a probability equals the threshold up to rounding."""
    clear = np.abs(foreground - threshold) > 1e-5
    return np.array_equal(labels[clear], labels_from(maps_of(foreground), threshold)[clear])


@given(probabilities, percent)
def test_kept_probabilities_cut_as_the_engine_does(foreground, threshold):
    result = Result(Slicing((6, 7)), 2, threshold)
    result.write((), everywhere(), maps_of(foreground))
    assert same_but_at_the_step(result.labels, foreground, threshold)
    assert np.abs(result.foreground / STEPS - foreground).max() <= 1 / STEPS + 1e-6


@given(probabilities, percent, percent)
def test_moving_the_threshold_equals_starting_with_it(foreground, first, then):
    moved, fresh = Result(Slicing((6, 7)), 2, first), Result(Slicing((6, 7)), 2, then)
    for result in (moved, fresh):
        result.write((), everywhere(), maps_of(foreground))
    list(moved.rethreshold(then, ()))
    assert np.array_equal(moved.labels, fresh.labels)


def test_a_slice_has_its_own_threshold_until_one_is_set():
    result, random = Result(Slicing((2, 60, 70)), 2, 0.5), np.random.default_rng(0)
    planes = [random.beta(0.2, 0.9, (60, 70)).astype(np.float32) * faint for faint in (1, 0.6)]
    own = [expected_dice_threshold(quantise(plane)) for plane in planes]
    assert own[0] != own[1] and 0.5 not in own
    for index, plane in enumerate(planes):
        result.write((index,), everywhere((60, 70)), maps_of(plane))
        assert same_but_at_the_step(result.labels[index], plane, 0.5)
        result.finish((index,))
    for threshold in (None, 0.7, None):
        list(result.rethreshold(threshold, (0,)))
        for index, plane in enumerate(planes):
            cut = threshold or own[index]
            assert result.threshold_at((index,)) == cut
            assert same_but_at_the_step(result.labels[index], plane, cut)


def test_the_plane_in_sight_is_cut_first():
    result = Result(Slicing((5, 6, 7)), 2, 0.9)
    for index in range(5):
        result.write((index,), everywhere(), maps_of(np.full((6, 7), 0.5, np.float32)))
    next(result.rethreshold(0.2, (3,)))
    assert [bool(plane.any()) for plane in result.labels] == [False, False, False, True, False]


@pytest.mark.parametrize("threshold", [0.01, 0.5])
def test_what_no_tile_reached_stays_background(threshold):
    result = Result(Slicing((2, 6, 7)), 2, threshold)
    result.write((0,), everywhere(), maps_of(np.ones((6, 7), np.float32)))
    list(result.rethreshold(0.01, (0,)))
    assert result.labels[0].all()
    assert not result.labels[1].any()


def test_more_classes_keep_the_most_probable():
    maps = np.random.default_rng(0).random((4, 6, 7), np.float32)
    result = Result(Slicing((6, 7)), 4, 0.5)
    result.write((), everywhere(), maps)
    assert result.foreground is None
    assert np.array_equal(result.labels, maps.argmax(0))


def test_folders_of_killed_programs_are_removed(tmp_path):
    own = new_folder(tmp_path)
    make = f"""
import os
from pathlib import Path
from napari_msankd.segment.probability_store import new_folder
print(new_folder(Path({str(tmp_path)!r})), flush=True)
input()
os._exit(1)
"""
    command = [sys.executable, "-c", make]
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True) as other:
        folder = Path(other.stdout.readline().strip())
        new_folder(tmp_path)
        assert folder.is_dir()
        other.communicate("\n")
    new_folder(tmp_path)
    assert own.is_dir() and not folder.exists()


def test_on_disk_and_in_memory_hold_the_same(tmp_path):
    folder = new_folder(tmp_path / "cache")
    disk, memory = (
        Result(Slicing((3, 6, 7)), 2, 0.5, folder=folder),
        Result(Slicing((3, 6, 7)), 2, 0.5),
    )
    foreground = np.random.default_rng(0).random((3, 6, 7), np.float32)
    for result in (disk, memory):
        for index in range(3):
            result.write((index,), everywhere(), maps_of(foreground[index]))
        list(result.rethreshold(0.3, (1,)))
    assert np.array_equal(np.asarray(disk.labels[:]), memory.labels)
    assert sorted(path.name for path in folder.iterdir()) == ["labels.zarr", "probabilities.zarr"]


def test_detached_labels_are_left_alone():
    result = Result(Slicing((6, 7)), 2, 0.5)
    result.write((), everywhere(), maps_of(np.full((6, 7), 0.7, np.float32)))
    before = result.labels
    result.detach()
    list(result.rethreshold(0.9, ()))
    assert before.all()
    assert not result.labels.any()


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("on_disk", [False, True])
def test_planes_along_any_axis_fill_the_volume(axis, on_disk, tmp_path):
    truth = np.random.default_rng(axis).random((4, 5, 6), np.float32)
    slicing = Slicing(truth.shape, axis)
    result = Result(slicing, 2, 0.5, threshold=0.5, folder=tmp_path if on_disk else None)
    for index in slicing.indices:
        plane = truth[slicing.at(index)]
        for rows in (slice(0, 2), slice(2, None)):
            part = plane[rows]
            result.write(
                index,
                (slice(*rows.indices(len(plane))), slice(0, plane.shape[1])),
                np.stack([1 - part, part]),
            )
        result.finish(index)
    assert np.array_equal(np.asarray(result.labels[:]), truth >= 0.5)
    for _ in result.rethreshold(0.8, (1,)):
        pass
    assert np.abs(np.asarray(result.labels[:]) - (truth >= 0.8)).mean() < 0.02
    assert np.allclose(np.asarray(result.foreground[:]) / STEPS, truth, atol=0.01)
