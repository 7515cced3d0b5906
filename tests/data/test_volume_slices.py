"""Folders of NIfTI volumes as domains: every slice a case."""

import numpy as np
import pytest

from src_training.data.domain import Domain
from src_training.data.split import patient_of, split
from src_training.errors import InputError

nib = pytest.importorskip("nibabel")

SPACING = (2.5, 0.7, 0.8)


def write_volume(path, voxels, spacing=SPACING):
    """Write (Z, Y, X) of our canonical axes as a NIfTI, whose axes are X, Y, Z to R, A, S."""
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([*spacing[::-1], 1.0])
    nib.save(nib.Nifti1Image(voxels.transpose(2, 1, 0)[::-1, ::-1], affine), path)


@pytest.fixture
def folder(tmp_path):
    random = np.random.default_rng(0)
    for name, depth in (("b", 4), ("a", 3)):
        hu = random.integers(-1000, 1500, (depth, 9, 11)).astype(np.int16)
        hu[:, 0, 0] = np.arange(depth)
        labels = np.zeros(hu.shape, np.uint8)
        labels[1:, 2:5, 3:6] = 1
        write_volume(tmp_path / "images" / f"{name}.nii.gz", hu)
        write_volume(tmp_path / "masks" / f"{name}.nii.gz", labels)
    return tmp_path


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
    with pytest.raises(InputError, match=r"c\.nii\.gz is 3 x 9 x 11 pixels; expected 2 x 9 x 11"):
        Domain.from_folder(folder)
    write_volume(folder / "masks" / "c.nii.gz", np.full((2, 9, 11), 0.5, np.float32))
    with pytest.raises(InputError, match="fractions; expected integer labels"):
        Domain.from_folder(folder)
    (folder / "images" / "d.png").write_bytes(b"")
    with pytest.raises(InputError, match="expected either volumes or images"):
        Domain.from_folder(folder)
