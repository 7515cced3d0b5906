"""Folders of volumes as domains, whose cases are the slices."""

import numpy as np
import pytest
import tifffile

from src_training.data.domain import Domain
from src_training.data.split import patient_of, split
from src_training.errors import InputError
from tests.io.volumes.files import WRITERS, save_volume

SPACING = (2.5, 0.7, 0.8)


def write_volume(path, voxels):
    """Write canonical (Z, Y, X) as ``.nii.gz``."""
    save_volume("nifti", path.parent, path.name.removesuffix(".nii.gz"), voxels, SPACING)


@pytest.fixture
def make_folder(tmp_path):
    """Make a domain of two volumes, the images and the masks each in a format."""

    def make(images="nifti", masks="nifti"):
        folder = tmp_path / f"{images}-{masks}"
        random = np.random.default_rng(0)
        for name, depth in (("b", 4), ("a", 3)):
            hu = random.integers(-1000, 1500, (depth, 9, 11)).astype(np.int16)
            hu[:, 0, 0] = np.arange(depth)
            labels = np.zeros(hu.shape, np.uint8)
            labels[1:, 2:5, 3:6] = 1
            save_volume(images, folder / "images", name, hu, SPACING)
            save_volume(masks, folder / "masks", name, labels, SPACING)
        return folder

    return make


@pytest.fixture
def folder(make_folder):
    return make_folder()


def test_every_slice_is_a_case_that_knows_its_place(folder):
    domain = Domain.from_folder(folder)
    assert domain.names == tuple(f"a_z{z:03d}" for z in range(3)) + tuple(
        f"b_z{z:03d}" for z in range(4)
    )
    case = domain[4]
    assert case.image.dtype == np.int16 and case.size == (9, 11) and case.image[0, 0] == 1
    assert case.mask[2:5, 3:6].all() and case.mask.sum() == 9
    assert (case.position.volume, case.position.index, case.position.depth) == ("b", 1, 4)
    assert domain.spacing == case.position.spacing == pytest.approx(SPACING)
    assert domain.background_only() == ("a_z000", "b_z000")


@pytest.mark.parametrize("images", WRITERS)
@pytest.mark.parametrize("masks", WRITERS)
def test_every_format_gives_the_same_cases(images, masks, make_folder, folder):
    expected, found = Domain.from_folder(folder), Domain.from_folder(make_folder(images, masks))
    assert found.names == expected.names and found.spacing == pytest.approx(SPACING)
    for one, other in zip(expected, found, strict=True):
        assert np.array_equal(one.image, other.image) and np.array_equal(one.mask, other.mask)
        assert one.image.dtype == other.image.dtype


def test_formats_may_be_mixed_in_a_folder(folder):
    voxels = np.ones((2, 9, 11), np.int16)
    for part in ("images", "masks"):
        tifffile.imwrite(folder / part / "c.tif", voxels, metadata={"axes": "ZYX"})
        save_volume("omezarr", folder / part, "d", voxels, SPACING)
    (folder / "images" / "c.tif").unlink()
    save_volume("dicom", folder / "images", "c", voxels, SPACING)
    domain = Domain.from_folder(folder)
    assert [name for name in domain.names if name[0] in "cd"] == [
        *("c_z000", "c_z001"),
        *("d_z000", "d_z001"),
    ]


def test_a_volume_that_changes_is_read_again(make_folder):
    folder = make_folder("dicom", "omezarr")
    domain = Domain.from_folder(folder)
    assert domain[0].image[0, 0] == 0
    for file in (folder / "images" / "a").iterdir():
        file.unlink()
    (folder / "images" / "a").rmdir()
    save_volume("dicom", folder / "images", "a", np.full((3, 9, 11), 77), SPACING)
    assert domain[0].image[0, 0] == 77


def test_two_volumes_of_one_stem_are_refused(folder):
    save_volume("tiff", folder / "images", "a", np.ones((3, 9, 11), np.int16), SPACING)
    with pytest.raises(InputError, match=r"both a\.nii\.gz and a\.ome\.tif; expected one file"):
        Domain.from_folder(folder)


def test_a_stack_without_spacing_is_refused(folder):
    pages = np.zeros((3, 9, 11), np.uint8)
    tifffile.imwrite(folder / "images" / "c.tif", pages, photometric="minisblack")
    expected = r"c\.tif is a volume of 3 slices without spacing; expected millimetres"
    with pytest.raises(InputError, match=expected):
        Domain.from_folder(folder, masks="optional")


def test_a_series_without_a_folder_is_refused(tmp_path):
    save_volume("dicom", tmp_path, "images", np.zeros((3, 9, 11)), SPACING)
    with pytest.raises(InputError, match="images is itself a volume; expected it in a folder"):
        Domain.from_folder(tmp_path)


def test_neighbours_are_the_slices_of_the_same_volume(folder):
    domain = Domain.from_folder(folder).subset(["a_z002", "b_z000"])
    ends = [case.image[0, 0].tolist() for case in domain.with_neighbours(3)]
    assert ends == [[1, 2, 2], [0, 0, 1]]
    assert domain.missing_context(3) == ("a_z002", "b_z000")


def test_a_volume_is_on_one_side_of_a_split(folder):
    training, validation = split(Domain.from_folder(folder), 0.4, seed=0)
    sides = [{patient_of(name) for name in side.names} for side in (training, validation)]
    assert sorted(map(sorted, sides)) == [["a"], ["b"]]


def test_images_alone_have_no_spacing(make_domain):
    assert Domain.from_folder(make_domain()).spacing is None


def test_fractions_of_hu_are_kept(folder):
    hu = np.linspace(-0.5, 0.5, 2 * 9 * 11, dtype=np.float32).reshape(2, 9, 11)
    write_volume(folder / "images" / "c.nii.gz", hu)
    domain = Domain.from_folder(folder, masks="optional")
    assert np.array_equal(domain.subset(["c_z001"])[0].image, hu[1])


def test_what_does_not_fit_is_one_sentence(folder):
    write_volume(folder / "images" / "c.nii.gz", np.zeros((2, 9, 11), np.int16))
    with pytest.raises(InputError, match=r"no mask for c\.nii\.gz"):
        Domain.from_folder(folder)
    write_volume(folder / "masks" / "c.nii.gz", np.zeros((3, 9, 11), np.uint8))
    with pytest.raises(
        InputError, match=r"c\.nii\.gz: 3 slices of 11 × 9 px \(w × h\) against 2 slices of"
    ):
        Domain.from_folder(folder)
    write_volume(folder / "masks" / "c.nii.gz", np.full((2, 9, 11), 0.5, np.float32))
    with pytest.raises(
        InputError, match=r"holds 0\.5 to 0\.5, 1 different values.*; expected labels"
    ):
        Domain.from_folder(folder)
    (folder / "images" / "d.png").write_bytes(b"")
    with pytest.raises(InputError, match="expected either volumes or images"):
        Domain.from_folder(folder)
