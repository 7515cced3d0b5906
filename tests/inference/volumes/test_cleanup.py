"""The largest body of a class, and no holes in it."""

import numpy as np
import pytest
import zarr

from src_training.errors import InputError
from src_training.inference.volumes import cleanup as cleaning
from src_training.inference.volumes import slabs as slabs_of
from src_training.inference.volumes.cleanup import clean_up


@pytest.fixture(params=["numpy", "zarr"])
def made(request):
    return np.copy if request.param == "numpy" else lambda labels: zarr.array(labels, chunks=4)


def two_bodies():
    labels = np.zeros((12, 14, 16), np.uint8)
    labels[1:6, 2:8, 2:8] = 1
    labels[3, 4, 4] = 0  # a hole
    labels[8:10, 10:12, 10:12] = 1
    labels[8:12, 2:4, 2:4] = 2
    labels[6, 8, 8] = 1  # touches the first body by a corner
    return labels


def test_only_the_largest_body_stays_and_other_classes_are_untouched(made, monkeypatch):
    monkeypatch.setattr(slabs_of, "_VOXELS", 300)
    labels = made(two_bodies())
    clean_up(labels, largest=(1,))
    wanted = two_bodies()
    wanted[8:10, 10:12, 10:12] = 0
    assert np.array_equal(labels[:], wanted)
    clean_up(labels, largest=(1,))
    assert np.array_equal(labels[:], wanted)


def test_holes_are_filled_but_not_with_other_classes(made):
    labels = two_bodies()
    labels[2, 3, 3] = 2  # enclosed, but of another class
    found = made(labels)
    clean_up(found, filled=(1,))
    labels[3, 4, 4] = 1
    assert np.array_equal(found[:], labels)


def test_a_hole_that_opens_at_the_edge_of_the_volume_is_none(made):
    labels = np.zeros((5, 5, 5), np.uint8)
    labels[:, 1:4, 1:4] = 1
    labels[:, 2, 2] = 0
    found = made(labels)
    clean_up(found, filled=(1,))
    assert np.array_equal(found[:], labels)


def test_a_class_that_is_absent_is_no_trouble(made):
    labels = made(np.zeros((3, 3, 3), np.uint8))
    clean_up(labels, largest=(1,), filled=(2,))
    assert not np.any(labels[:])


def test_what_memory_does_not_hold_is_refused_and_left_as_it_was(made, monkeypatch):
    monkeypatch.setattr(cleaning, "_BYTES", 10**12)
    labels = made(two_bodies())
    with pytest.raises(InputError, match="cleaning class 1 up takes about"):
        clean_up(labels, largest=(1,))
    assert np.array_equal(labels[:], two_bodies())


def test_cleaning_what_is_clean_changes_nothing_whatever_the_classes_enclose(made):
    labels = np.zeros((9, 9, 9), np.uint8)
    labels[1:8, 1:8, 1:8] = 1
    labels[3, 3, 3] = 2  # in the first class, and not the largest body of its own
    labels[5, 5, 4:6] = 2
    found = made(labels)
    clean_up(found, largest=(1, 2), filled=(1, 2))
    once = np.array(found[:])
    assert once[3, 3, 3] == 1
    clean_up(found, largest=(1, 2), filled=(1, 2))
    assert np.array_equal(found[:], once)
