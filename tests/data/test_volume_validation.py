"""Inspecting a folder of volumes yields a summary of each, and every problem."""

import numpy as np
import pytest

from src_training.data.domain import Domain
from src_training.data.summary import OUTLINES
from src_training.data.validation import inspect_folder
from src_training.io.images import write_image
from tests.data.test_validation import problems, summaries
from tests.data.test_volume_slices import SPACING, write_volume
from tests.io.volumes.files import WRITERS, save_volume


def write_folder(folder, name="nifti"):
    """Two volumes; slice 2 of the first is bright and has the most foreground."""
    for stem, depth in (("a", 4), ("b", 3)):
        hu, labels = np.full((depth, 9, 11), -900, np.int16), np.zeros((depth, 9, 11), np.uint8)
        labels[1, 2:5, 3:6], labels[2, 2:7, 3:8] = 1, 2
        hu[2] = np.linspace(0, 100, 99).reshape(9, 11)
        save_volume(name, folder / "images", stem, hu, SPACING)
        save_volume(name, folder / "masks", stem, labels, SPACING)
    return folder


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path)


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_has_the_same_summaries(name, folder, tmp_path):
    expected = summaries(inspect_folder(folder))
    found = list(inspect_folder(write_folder(tmp_path / "other", name)))
    assert problems(found) == {} and summaries(found).keys() == expected.keys()
    for stem, summary in summaries(found).items():
        assert (summary.counts, summary.slices) == (expected[stem].counts, expected[stem].slices)
        assert np.array_equal(summary.thumbnail, expected[stem].thumbnail)


def test_problems_name_the_files_of_their_format(tmp_path):
    folder = write_folder(tmp_path, "dicom")
    save_volume("omezarr", folder / "masks", "c", np.ones((4, 9, 11), np.uint8), SPACING)
    save_volume("nifti", folder / "images", "b", np.ones((3, 9, 11), np.int16), SPACING)
    (folder / "images" / "a" / "1.dcm").write_bytes(b"")
    sentences = problems(inspect_folder(folder))
    assert sentences.keys() == {"images/a", "images/b.nii.gz", "masks/c.zarr"}
    assert "both b and b.nii.gz; expected one file for each" in sentences["images/b.nii.gz"]
    assert "has mixed spacings" in sentences["images/a"]


def test_a_summary_has_slices_and_voxels_of_each_class(folder):
    findings = list(inspect_folder(folder))
    assert problems(findings) == {}
    volumes = summaries(findings)
    assert [(each.name, each.size, each.slices) for each in volumes.values()] == [
        ("a", (9, 11), 4),
        ("b", (9, 11), 3),
    ]
    assert volumes["a"].counts == {"background": 396 - 34, "class_1": 9, "class_2": 25}
    cases = [case.mask for case in Domain.from_folder(folder)]
    totals = sum(np.bincount(mask.ravel(), minlength=3) for mask in cases)
    assert totals.tolist() == [
        sum(each.counts[c] for each in volumes.values()) for c in volumes["a"].counts
    ]


def test_the_thumbnail_is_of_the_slice_with_most_foreground(folder):
    picture = summaries(inspect_folder(folder))["a"].thumbnail
    outlined = (picture == OUTLINES[1]).all(-1)
    rows, columns = np.nonzero(outlined)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (2, 6, 3, 7)
    assert len(np.unique(picture[~outlined])) > 20


def test_without_masks_the_middle_slice_is_shown(folder):
    for mask in (folder / "masks").iterdir():
        mask.unlink()
    volume = summaries(inspect_folder(folder, masks="optional"))["a"]
    assert volume.counts is None and volume.slices == 4
    assert len(np.unique(volume.thumbnail)) > 20
    assert problems(inspect_folder(folder)) == {
        f"images/{name}.nii.gz": f"images/{name}.nii.gz has no mask; expected one of the same stem "
        "in masks/"
        for name in "ab"
    }


def test_every_problem_names_its_file_and_hides_no_other(folder):
    write_volume(folder / "masks" / "a.nii.gz", np.ones((4, 9, 10), np.uint8))
    write_volume(folder / "masks" / "c.nii.gz", np.ones((4, 9, 11), np.uint8))
    write_image(folder / "images" / "d.png", np.zeros((9, 11), np.uint8))
    findings = list(inspect_folder(folder))
    assert list(summaries(findings)) == ["b"]
    sentences = problems(findings)
    assert sentences.keys() == {"masks/a.nii.gz", "masks/c.nii.gz", "images/d.png"}
    assert (
        "4 slices of 10 × 9 px (w × h) against 4 slices of 11 × 9 px (w × h)"
        in sentences["masks/a.nii.gz"]
    )
    assert "no image of the same stem" in sentences["masks/c.nii.gz"]
    assert "either volumes or images" in sentences["images/d.png"]


def test_masks_of_background_only_are_a_problem(folder):
    for name, depth in (("a", 4), ("b", 3)):
        write_volume(folder / "masks" / f"{name}.nii.gz", np.zeros((depth, 9, 11), np.uint8))
    assert "is all background" in problems(inspect_folder(folder))[folder.name]
