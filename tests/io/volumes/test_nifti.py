"""NIfTI: volumes of any orientation are read as canonical, and labels keep the orientation."""

import errno
import pickle
import sys
from itertools import permutations, product

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nibabel.orientations import aff2axcodes, axcodes2ornt, ornt_transform

from src_training.errors import InputError
from src_training.io.volumes.base import orientation_of
from src_training.io.volumes.registry import open_volume, write_labels_like

from .files import SHAPE, affine_of, save

CODES = [
    tuple(pair[end] for pair, end in zip(pairs, ends, strict=True))
    for pairs in permutations(("LR", "PA", "IS"))
    for ends in product((0, 1), repeat=3)
]


@pytest.fixture
def numbers():
    return np.arange(60, dtype=np.int16).reshape(SHAPE)


@pytest.mark.parametrize("codes", CODES, ids="".join)
def test_each_of_48_orientations_is_made_canonical_and_undone(codes, numbers, tmp_path):
    suffix = ".nii" if codes < codes[::-1] else ".nii.gz"
    path = save(tmp_path / f"a{suffix}", numbers, affine_of(codes))
    assert aff2axcodes(nibabel.load(path).affine) == codes
    volume = open_volume(path)
    reference = nibabel.load(path).as_reoriented(
        ornt_transform(axcodes2ornt(codes), axcodes2ornt("LPS"))
    )
    assert np.array_equal(volume.voxels.compute(), np.asarray(reference.dataobj).T)
    assert volume.spacing == pytest.approx(reference.header.get_zooms()[::-1])
    assert volume.canonical_affine[:, [2, 1, 0, 3]] == pytest.approx(reference.affine)

    write_labels_like(volume, volume.voxels, tmp_path / f"b{suffix}")
    source, written = nibabel.load(path), nibabel.load(tmp_path / f"b{suffix}")
    assert np.array_equal(np.asarray(written.dataobj), numbers)
    assert np.array_equal(written.affine, source.affine)
    assert written.get_data_dtype() == np.uint8


@given(st.integers(0, 47), st.tuples(*[st.integers(1, 4)] * 3))
def test_there_and_back_is_the_identity(which, shape):
    voxels = np.arange(np.prod(shape)).reshape(shape)
    orientation = orientation_of(affine_of(CODES[which]))
    canonical = orientation.to_canonical(voxels)
    assert np.array_equal(orientation.to_source(canonical), voxels)
    assert canonical.shape == orientation.spacing(shape)


def test_labels_keep_the_header_of_the_source(numbers, tmp_path):
    path = save(tmp_path / "a.nii.gz", numbers, affine_of("PIR"), code=3)
    image = nibabel.load(path)
    image.header["descrip"] = b"thin slices"
    image.header["sform_code"] = 2
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"kept"))
    nibabel.save(image, path)
    volume = open_volume(path)
    write_labels_like(volume, np.ones(volume.shape, bool), tmp_path / "b.nii.gz")
    header = nibabel.load(tmp_path / "b.nii.gz").header
    assert (int(header["qform_code"]), int(header["sform_code"])) == (3, 2)
    assert bytes(header["descrip"].item()) == b"thin slices"
    assert header.get_xyzt_units()[0] == "mm"
    assert header.extensions[0].get_content() == b"kept"
    assert np.asarray(nibabel.load(tmp_path / "b.nii.gz").dataobj).all()


def test_slope_and_intercept_give_hounsfield_units(numbers, tmp_path):
    path = save(tmp_path / "a.nii", numbers.astype(np.int16), slope=(2.0, -1024.0))
    stored = np.asarray(nibabel.load(path).dataobj.get_unscaled())
    volume = open_volume(path)
    expected = (stored * 2.0 - 1024).astype(np.float32)
    assert volume.voxels.dtype == np.float32
    assert np.array_equal(volume.orientation.to_source(volume.voxels).compute(), expected)


def test_an_unscaled_file_keeps_its_dtype_in_native_byte_order(numbers, tmp_path):
    image = nibabel.Nifti1Image(numbers, np.eye(4), nibabel.Nifti1Header(endianness=">"))
    image.set_sform(np.eye(4), 1)
    image.set_data_dtype(np.int16)
    nibabel.save(image, tmp_path / "a.nii")
    volume = open_volume(tmp_path / "a.nii")
    assert volume.voxels.dtype == np.dtype("=i2")
    assert np.array_equal(volume.orientation.to_source(volume.voxels).compute(), numbers)


def test_metres_and_microns_come_in_millimetres(numbers, tmp_path):
    path = save(tmp_path / "a.nii", numbers, np.diag([500.0, 750, 2000, 1]))
    image = nibabel.load(path)
    image.header.set_xyzt_units("micron")
    nibabel.save(image, tmp_path / "b.nii")
    assert open_volume(tmp_path / "b.nii").spacing == pytest.approx((2, 0.75, 0.5))


def test_a_trailing_axis_of_one_is_no_fourth_axis(numbers, tmp_path):
    volume = open_volume(save(tmp_path / "a.nii.gz", numbers[..., None], affine_of("LPS")))
    assert volume.shape == (5, 4, 3)
    write_labels_like(volume, volume.voxels, tmp_path / "b.nii.gz")
    assert nibabel.load(tmp_path / "b.nii.gz").shape == (*SHAPE, 1)


def test_a_volume_is_pickled_as_its_path(numbers, tmp_path):
    path = save(tmp_path / "a.nii.gz", np.tile(numbers, (30, 30, 30)))
    volume = open_volume(path)
    sent = pickle.dumps(volume)
    assert len(sent) < path.stat().st_size
    assert np.array_equal(pickle.loads(sent).voxels.compute(), volume.voxels.compute())


def test_a_slab_is_all_that_is_computed_at_a_time(numbers, tmp_path, monkeypatch):
    monkeypatch.setattr("src_training.io.volumes.lazy._SLAB", 12)
    volume = open_volume(save(tmp_path / "a.nii", numbers, affine_of("SLP")))
    write_labels_like(volume, volume.voxels, tmp_path / "b.nii")
    assert np.array_equal(np.asarray(nibabel.load(tmp_path / "b.nii").dataobj), numbers)


def four_axes(path, numbers):
    save(path, np.stack([numbers, numbers], -1))
    return "has 4 axes, 3 x 4 x 5 x 2"


def no_code(path, numbers):
    save(path, numbers, code=0)
    return "neither a qform nor an sform code"


def tilted(path, numbers):
    affine = np.eye(4)
    affine[1, 2] = np.tan(np.radians(12))
    image = nibabel.Nifti1Image(numbers, affine)
    image.set_sform(affine, 1)
    nibabel.save(image, path)
    return "12.0 degrees off the right angle (gantry tilt)"


def no_length(path, numbers):
    image = nibabel.Nifti1Image(numbers, np.eye(4))
    image.header["sform_code"], image.header["qform_code"] = 1, 0
    image.header["srow_z"] = 0
    image.header["srow_x"], image.header["srow_y"] = (1, 0, 0, 0), (0, 1, 0, 0)
    path.write_bytes(image.header.binaryblock + bytes(4) + numbers.tobytes())
    return "spacing 1 x 1 x 0"


def colours(path, numbers):
    kind = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    save(path, np.zeros(SHAPE, kind))
    return "expected integers or floating point"


def text(path, numbers):
    path.write_text("no volume at all")
    return "expected a NIfTI file"


@pytest.mark.parametrize("fault", [four_axes, no_code, tilted, no_length, colours, text])
def test_a_file_that_is_not_one_volume(fault, numbers, tmp_path):
    path = tmp_path / "a.nii"
    words = fault(path, numbers)
    with pytest.raises(InputError) as told:
        open_volume(path)
    assert str(path) in str(told.value) and words in str(told.value)
    assert "\n" not in str(told.value)


def test_a_file_cut_short_is_told_when_opened(numbers, tmp_path):
    path = save(tmp_path / "a.nii", numbers)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InputError, match="truncated: 442 of 472 bytes"):
        open_volume(path)


def test_a_packed_file_cut_short_is_told_when_read(tmp_path):
    random = np.random.default_rng(0).integers(0, 2**15, (64, 64, 64), np.int16)
    path = save(tmp_path / "a.nii.gz", random)
    path.write_bytes(path.read_bytes()[:-200_000])
    volume = open_volume(path)
    with pytest.raises(InputError, match=r"a\.nii\.gz cannot be read"):
        volume.voxels.compute()


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.zeros((2, 2, 2), np.uint8), "have shape (2, 2, 2); expected (5, 4, 3)"),
        (np.full((5, 4, 3), 256), "run from 256 to 256"),
        (np.full((5, 4, 3), -1), "run from -1 to -1"),
        (np.zeros((5, 4, 3)), "are float64"),
    ],
)
def test_labels_that_do_not_fit_leave_the_former_file(labels, words, numbers, tmp_path):
    volume = open_volume(save(tmp_path / "a.nii", numbers, affine_of("LPS")))
    (tmp_path / "b.nii").write_bytes(b"former")
    with pytest.raises(InputError) as told:
        write_labels_like(volume, labels, tmp_path / "b.nii")
    assert words in str(told.value)
    assert (tmp_path / "b.nii").read_bytes() == b"former"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_full_disk_leaves_the_former_file(suffix, tmp_path, largest_file):
    path = tmp_path / f"b{suffix}"
    volume = open_volume(save(tmp_path / "a.nii", np.zeros((32, 32, 32), np.int16)))
    labels = np.random.default_rng(0).integers(0, 255, volume.shape)
    write_labels_like(volume, labels, path)
    former = path.read_bytes()
    with largest_file(2000), pytest.raises(OSError) as told:
        write_labels_like(volume, labels, path)
    assert told.value.errno == errno.EFBIG and told.value.filename == str(path)
    assert path.read_bytes() == former
    assert len(list(tmp_path.iterdir())) == 2


def test_a_missing_library_names_the_extra(numbers, tmp_path, monkeypatch):
    path = save(tmp_path / "a.nii", numbers)
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(InputError, match=r"pip install 'napari-msankd\[volumes\]'"):
        open_volume(path)


def test_an_sform_of_zeros_gives_way_to_the_qform(tmp_path):
    path = save(tmp_path / "scan.nii", np.zeros(SHAPE, np.int16), affine_of("LPS"))
    image = nibabel.load(path)
    header = image.header.copy()
    for name in ("srow_x", "srow_y", "srow_z"):
        header[name] = 0
    content = path.read_bytes()
    path.write_bytes(bytes(header.binaryblock) + content[348:])
    volume = open_volume(path)
    np.testing.assert_allclose(volume.affine, affine_of("LPS"), atol=1e-5)


@pytest.mark.parametrize("units", [0, 4, 5, 7, 2 + 8])
def test_units_of_space_that_are_unknown_are_millimetres(tmp_path, units):
    path = save(tmp_path / "scan.nii", np.zeros(SHAPE, np.int16), affine_of("LPS"))
    content = bytearray(path.read_bytes())
    content[123] = units
    path.write_bytes(content)
    assert open_volume(path).spacing == (2.0, 0.75, 0.5)
