"""Names of label files, which must be unique."""

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from src_training.errors import InputError
from src_training.inference.image_files import find_images, label_files
from src_training.inference.volumes.segment import find_volumes
from src_training.io.images import write_labels
from src_training.io.volumes.base import Volume
from tests.io.volumes.files import Series

OUT = Path("out")


def volume(path, kind):
    return Volume(np.zeros((2, 3, 4), np.uint8), None, Path(path), kind)


def test_labels_are_called_like_their_inputs():
    volumes = [volume("b.nii.gz", "nifti"), volume("scans/CT", "dicom"), volume("s.tif", "tiff")]
    stems, targets = label_files([Path("a.png"), Path("b.jpg")], volumes, OUT)
    assert stems == {Path("a.png"): OUT / "a", Path("b.jpg"): OUT / "b"}
    assert list(targets.values()) == [OUT / "b.nii.gz", OUT / "CT.nii.gz", OUT / "s.tif"]


ALIKE = (
    (Path("p1/a.png"), Path("p2/a.jpg")),
    (Path("a.png"), Path("A.png")),
    (Path("caf\u00e9.png"), Path("cafe\u0301.png")),
    (volume("p1/ct.nii.gz", "nifti"), volume("p2/ct.nii.gz", "nifti")),
    (volume("s1/CT", "dicom"), volume("s2/CT", "dicom")),
    (volume("s1/CT", "dicom"), volume("CT.nii.gz", "nifti")),
    (volume("x.tif", "tiff"), volume("x.ome.tif", "tiff")),
    (Path("p1/x.png"), volume("x.tif", "tiff")),
)


@pytest.mark.parametrize("pair", [pair for each in ALIKE for pair in permutations(each)])
def test_two_inputs_that_would_write_one_file_are_refused(pair):
    images = [each for each in pair if isinstance(each, Path)]
    volumes = [each for each in pair if isinstance(each, Volume)]
    with pytest.raises(InputError, match="would write the same labels") as raised:
        label_files(images, volumes, OUT)
    for each in pair:
        assert str(each if isinstance(each, Path) else each.path) in str(raised.value)


def test_an_input_given_twice_is_refused():
    with pytest.raises(InputError, match=r"a\.png is given twice"):
        label_files([Path("a.png"), Path("a.png")], [], OUT)


@pytest.mark.parametrize("image", [True, False])
def test_labels_never_replace_an_input(image):
    images = [OUT / "a.png"] if image else []
    volumes = [] if image else [volume(OUT / "a.nii", "nifti")]
    with pytest.raises(InputError, match="where its labels would replace it"):
        label_files(images, volumes, OUT)


def test_a_folder_of_stacks_is_found_once(tmp_path):
    write_labels(tmp_path / "stack.tif", np.zeros((4, 40, 40), np.uint8))
    write_labels(tmp_path / "photograph.png", np.zeros((40, 40), np.uint8))
    volumes, others = find_volumes([tmp_path])
    assert volumes == [tmp_path / "stack.tif"]
    assert find_images(others) == [tmp_path / "photograph.png"]


def test_a_slice_stands_for_its_series(tmp_path):
    series = Series(tmp_path / "CT")
    slices = sorted(series.folder.iterdir())
    for file in slices:
        file.rename(file.with_suffix(".dcm"))
    file = slices[0].with_suffix(".dcm")
    [found], others = find_volumes([file])
    assert found == file and not others
