"""Volumes are looked at before they are used, each as one case."""

import numpy as np
import pytest

from src_training.data.domain import Domain
from src_training.data.summary import OUTLINES
from src_training.data.validation import inspect_folder
from src_training.io.images import write_image
from tests.data.test_validation import looks, problems
from tests.data.test_volume_slices import write_volume


@pytest.fixture
def folder(tmp_path):
    """Two volumes; most foreground is in slice 2 of the first, which is bright."""
    for name, depth in (("a", 4), ("b", 3)):
        hu, labels = np.full((depth, 9, 11), -900, np.int16), np.zeros((depth, 9, 11), np.uint8)
        labels[1, 2:5, 3:6], labels[2, 2:7, 3:8] = 1, 2
        hu[2] = np.linspace(0, 100, 99).reshape(9, 11)
        write_volume(tmp_path / "images" / f"{name}.nii.gz", hu)
        write_volume(tmp_path / "masks" / f"{name}.nii.gz", labels)
    return tmp_path


def test_a_volume_is_one_look_with_its_slices_and_its_voxels_of_each_class(folder):
    found = list(inspect_folder(folder))
    assert problems(found) == {}
    seen = looks(found)
    assert [(look.name, look.size, look.slices) for look in seen.values()] == [
        ("a", (9, 11), 4),
        ("b", (9, 11), 3),
    ]
    assert seen["a"].counts == {"background": 396 - 34, "class_1": 9, "class_2": 25}
    cases = [case.mask for case in Domain.from_folder(folder)]
    totals = sum(np.bincount(mask.ravel(), minlength=3) for mask in cases)
    assert totals.tolist() == [
        sum(look.counts[c] for look in seen.values()) for c in seen["a"].counts
    ]


def test_the_thumbnail_is_of_the_slice_with_most_foreground(folder):
    picture = looks(inspect_folder(folder, {"organ": [1, 2]}))["a"].thumbnail
    outlined = (picture == OUTLINES[0]).all(-1)
    rows, columns = np.nonzero(outlined)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (2, 6, 3, 7)
    assert len(np.unique(picture[~outlined])) > 20


def test_without_masks_volumes_are_seen_in_their_middle(folder):
    for mask in (folder / "masks").iterdir():
        mask.unlink()
    look = looks(inspect_folder(folder, masks="optional"))["a"]
    assert look.counts is None and look.slices == 4
    assert len(np.unique(look.thumbnail)) > 20
    assert problems(inspect_folder(folder)) == {
        f"images/{name}.nii.gz": f"images/{name}.nii.gz has no mask; expected one of the same stem "
        "in masks/"
        for name in "ab"
    }


def test_every_problem_is_said_by_its_file_and_hides_no_other(folder):
    write_volume(folder / "masks" / "a.nii.gz", np.ones((4, 9, 10), np.uint8))
    write_volume(folder / "masks" / "c.nii.gz", np.ones((4, 9, 11), np.uint8))
    write_image(folder / "images" / "d.png", np.zeros((9, 11), np.uint8))
    found = list(inspect_folder(folder))
    assert list(looks(found)) == ["b"]
    said = problems(found)
    assert said.keys() == {"images/a.nii.gz", "masks/c.nii.gz", "images/d.png"}
    assert (
        "is 4 x 9 x 10 pixels; expected 4 x 9 x 11 pixels, as its image" in said["images/a.nii.gz"]
    )
    assert "no image of the same stem" in said["masks/c.nii.gz"]
    assert "either volumes or images" in said["images/d.png"]


def test_values_of_no_class_and_masks_of_nothing_are_problems(folder):
    said = problems(inspect_folder(folder, {"organ": 1}))
    assert said.keys() == {"images/a.nii.gz", "images/b.nii.gz"}
    assert "holds the value 2" in said["images/a.nii.gz"]
    for name, depth in (("a", 4), ("b", 3)):
        write_volume(folder / "masks" / f"{name}.nii.gz", np.zeros((depth, 9, 11), np.uint8))
    assert "is all background" in problems(inspect_folder(folder))[folder.name]
