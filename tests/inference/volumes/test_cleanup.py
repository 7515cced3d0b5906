"""The largest component of a class, and its filled holes."""

import numpy as np
import pytest
import zarr

from src_training.errors import InputError
from src_training.inference.volumes.cleanup import clean_up


@pytest.fixture(params=["numpy", "zarr"])
def make_labels(request):
    return np.copy if request.param == "numpy" else lambda labels: zarr.array(labels, chunks=4)


def two_components():
    labels = np.zeros((12, 14, 16), np.uint8)
    labels[1:6, 2:8, 2:8] = 1
    labels[3, 4, 4] = 0  # a hole
    labels[8:10, 10:12, 10:12] = 1
    labels[8:12, 2:4, 2:4] = 2
    labels[6, 8, 8] = 1  # touches the first component by a corner
    return labels


def test_only_the_largest_component_of_a_class_stays(make_labels, monkeypatch):
    monkeypatch.setattr("src_training.inference.volumes.slabs.SLAB_VOXELS", 300)
    labels = make_labels(two_components())
    clean_up(labels, largest=(1,))
    wanted = two_components()
    wanted[8:10, 10:12, 10:12] = 0
    assert np.array_equal(labels[:], wanted)
    clean_up(labels, largest=(1,))
    assert np.array_equal(labels[:], wanted)


def test_holes_are_filled_but_not_with_other_classes(make_labels):
    labels = two_components()
    labels[2, 3, 3] = 2  # enclosed, but of another class
    found = make_labels(labels)
    clean_up(found, filled=(1,))
    labels[3, 4, 4] = 1
    assert np.array_equal(found[:], labels)


def test_a_hole_at_the_edge_of_the_volume_stays(make_labels):
    labels = np.zeros((5, 5, 5), np.uint8)
    labels[:, 1:4, 1:4] = 1
    labels[:, 2, 2] = 0
    found = make_labels(labels)
    clean_up(found, filled=(1,))
    assert np.array_equal(found[:], labels)


def test_an_absent_class_changes_nothing(make_labels):
    labels = make_labels(np.zeros((3, 3, 3), np.uint8))
    clean_up(labels, largest=(1,), filled=(2,))
    assert not np.any(labels[:])


def test_a_class_too_large_for_memory_is_refused(make_labels, monkeypatch):
    monkeypatch.setattr("src_training.inference.volumes.cleanup.BYTES_PER_VOXEL", 10**12)
    labels = make_labels(two_components())
    with pytest.raises(InputError, match="cleaning up class 1 takes about"):
        clean_up(labels, largest=(1,))
    assert np.array_equal(labels[:], two_components())


def test_cleaning_up_twice_ends_like_once(make_labels):
    labels = np.zeros((9, 9, 9), np.uint8)
    labels[1:8, 1:8, 1:8] = 1
    labels[3, 3, 3] = 2  # in the first class, and not the largest component of its own
    labels[5, 5, 4:6] = 2
    found = make_labels(labels)
    clean_up(found, largest=(1, 2), filled=(1, 2))
    once = np.array(found[:])
    assert once[3, 3, 3] == 1
    clean_up(found, largest=(1, 2), filled=(1, 2))
    assert np.array_equal(found[:], once)
