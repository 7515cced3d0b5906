"""A DICOM series is sorted by position, not by file names."""

import imagecodecs
import nibabel
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    generate_uid,
)

from src_training.errors import InputError
from src_training.io.volumes.registry import format_of, open_volume, write_labels_like

from .files import NAMES, Series, save_frames, save_slice


@pytest.fixture
def series(tmp_path):
    return Series(tmp_path / "series")


def test_slices_lie_by_position_and_values_are_hounsfield_units(series):
    (series.folder / "readme.txt").write_text("no slice")
    volume = open_volume(series.folder)
    assert volume.voxels.chunks[0] == (1,) * 5
    assert volume.spacing == (2, 0.75, 0.5)
    assert volume.voxels.dtype == np.int32  # 16 unsigned bits less 1024
    assert np.array_equal(volume.voxels.compute(), series.stored.astype(int) - 1024)
    assert np.array_equal(volume.voxels[2:4, 1, ::2].compute(), series.stored[2:4, 1, ::2] - 1024.0)


def test_twelve_bits_fit_sixteen_and_a_fraction_needs_floats(series):
    for k in range(5):
        series.save(k, BitsStored=12, HighBit=11)
    assert open_volume(series.folder).voxels.dtype == np.int16
    series.save(1, BitsStored=12, HighBit=11, RescaleSlope="0.5")
    voxels = open_volume(series.folder).voxels
    assert voxels.dtype == np.float32
    assert np.array_equal(voxels[1].compute(), series.stored[1] * 0.5 - 1024)
    assert np.array_equal(voxels[2].compute(), series.stored[2] - 1024.0)


@pytest.mark.parametrize(
    "orientation", [(1, 0, 0, 0, 0, -1), (0, 1, 0, 0, 0, -1), (-1, 0, 0, 0, 1, 0)]
)
def test_sagittal_coronal_and_mirrored_slices_come_canonical(orientation, series, tmp_path):
    unit_vectors = np.reshape(orientation, (2, 3)).astype(float)
    normal = np.cross(*unit_vectors)
    for k in range(5):
        series.save(
            k, np.array([5, 6, 7]) + 2 * k * normal, ImageOrientationPatient=list(orientation)
        )
    volume = open_volume(series.folder)
    # The canonical affine must agree with the equation of the DICOM standard.
    canonical = np.linalg.inv(np.diag([-1, -1, 1, 1]) @ volume.canonical_affine)
    voxels = volume.voxels.compute()
    for k, j, i in np.ndindex(5, 4, 6):
        place = [5, 6, 7] + 2 * k * normal + 0.75 * j * unit_vectors[1] + 0.5 * i * unit_vectors[0]
        index = np.rint((canonical @ [*place, 1])[:3]).astype(int)
        assert voxels[tuple(index)] == int(series.stored[k, j, i]) - 1024
    steps = np.diag(volume.canonical_affine[[2, 1, 0], :3])
    assert (np.sign(steps) == [1, -1, -1]).all()


def test_labels_go_to_nifti_in_the_place_of_the_series(series, tmp_path):
    volume = open_volume(series.folder)
    labels = (volume.voxels > 0).astype(np.uint8)
    write_labels_like(volume, labels, tmp_path / "labels.nii.gz")
    image = nibabel.load(tmp_path / "labels.nii.gz")
    assert nibabel.aff2axcodes(image.affine) == ("L", "P", "S")
    assert image.affine[:3, 3] == pytest.approx([10, 20, 30])
    again = open_volume(tmp_path / "labels.nii.gz")
    assert again.spacing == volume.spacing
    assert np.array_equal(again.voxels.compute(), labels.compute())


def missing(series):
    (series.folder / NAMES[2]).unlink()
    return "misses a slice between a and c, 4 mm apart; expected 2 mm"


def duplicate(series):
    save_slice(series.folder / "f", series.stored[1], (-10, -20, 32), series.uid)
    return "has a duplicate slice, a and f at one position"


def mixed_gaps(series):
    series.save(4, (-10, -20, 30 + 2 * 3 + 1.5))
    return "has mixed spacings, 1.5 mm between c and b"


def mixed_pixels(series):
    series.save(3, PixelSpacing=[0.8, 0.5])
    return "c has PixelSpacing 0.8 x 0.5; expected 0.75 x 0.5"


def mixed_sizes(series):
    series.save(3, pixels=np.zeros((4, 4), np.uint16))
    return "c has size 4 x 4; expected 4 x 6"


def tilted(series):
    for k in range(5):
        series.save(k, (-10, -20 + 2 * k * np.tan(np.radians(15)), 30 + 2 * k))
    return "15.0 degrees off the right angle (gantry tilt)"


def no_orientation(series):
    series.save(2, ImageOrientationPatient=None)
    return "e has no ImageOrientationPatient"


def two_series(series):
    series.save(2, uid=generate_uid())
    return "holds 2 series"


def frames(series):
    series.save(2, NumberOfFrames=3)
    return "e holds 3 frames"


def colours(series):
    series.save(2, PhotometricInterpretation="RGB")
    return "e is RGB; expected MONOCHROME2"


@pytest.mark.parametrize(
    "fault",
    [
        missing,
        duplicate,
        mixed_gaps,
        mixed_pixels,
        mixed_sizes,
        tilted,
        no_orientation,
        two_series,
        frames,
        colours,
    ],
)
def test_a_series_that_is_not_one_regular_volume(fault, series):
    words = fault(series)
    with pytest.raises(InputError) as told:
        open_volume(series.folder)
    said = str(told.value)
    assert str(series.folder) in said and words in said and "\n" not in said


def test_a_slice_cut_short_is_told_when_read(series):
    file = series.folder / NAMES[3]
    file.write_bytes(file.read_bytes()[:-10])
    volume = open_volume(series.folder)
    assert volume.voxels[0].compute().any()
    with pytest.raises(InputError, match="c cannot be read"):
        volume.voxels[3].compute()


def save_companion(file, sop_class, **fields):
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = Dataset()
    data.file_meta, data.SOPClassUID = meta, sop_class
    for name, value in fields.items():
        setattr(data, name, value)
    data.save_as(file, enforce_file_format=True)


def test_companions_of_a_series_are_left_out_and_counted(series):
    directory, report = "1.2.840.10008.1.3.10", "1.2.840.10008.5.1.4.1.1.88.67"
    capture = "1.2.840.10008.5.1.4.1.1.7"
    save_companion(series.folder / "DICOMDIR", directory, FileSetID="A")
    save_companion(series.folder / "dose", report, SeriesInstanceUID=generate_uid())
    save_companion(series.folder / "shot", capture, Rows=9, Columns=9)
    save_slice(
        series.folder / "scout",
        series.stored[0],
        (0, 0, 0),
        generate_uid(),
        ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"],
        ImageOrientationPatient=[1, 0, 0, 0, 0, -1],
    )
    volume = open_volume(series.folder)
    assert volume.shape == (5, 4, 6)
    expected = "3 DICOM files left out (localizer: 1, no image: 1, secondary capture: 1)"
    assert volume.notes == (expected,)


def test_a_folder_with_a_dicomdir_alone_is_no_volume(series, tmp_path):
    save_companion(tmp_path / "DICOMDIR", "1.2.840.10008.1.3.10", FileSetID="A")
    assert format_of(tmp_path) is None and format_of(series.folder) is not None


@pytest.mark.parametrize("suffix", [".dcm", ".DCM"])
def test_a_single_file_opens_its_series(series, suffix):
    file = series.folder / f"slice{suffix}"
    (series.folder / NAMES[2]).rename(file)
    save_slice(series.folder / "other", series.stored[0], (0, 0, 0), generate_uid())
    assert open_volume(file).shape == (5, 4, 6)


def test_headers_that_differ_by_rounding_are_one_series(series):
    series.save(2, PixelSpacing=[0.75005, 0.5])
    series.save(3, ImageOrientationPatient=[1, 6e-5, 0, -6e-5, 1, 0])
    assert open_volume(series.folder).shape == (5, 4, 6)


def write_raw(file, field, raw):
    """Put other bytes in the place of a decimal string of a file."""
    tag = dcmread(file)[field].tag
    content = file.read_bytes()
    tag = tag.group.to_bytes(2, "little") + tag.element.to_bytes(2, "little")
    start = content.index(tag + b"DS") + 6
    length = int.from_bytes(content[start : start + 2], "little")
    assert len(raw) <= length
    file.write_bytes(content[: start + 2] + raw.ljust(length) + content[start + 2 + length :])


@pytest.mark.parametrize(
    ("field", "raw", "shown"),
    [
        ("PixelSpacing", b"0,75\\0,5", r"PixelSpacing 0,75\0,5"),
        ("PixelSpacing", b"0.75", "PixelSpacing 0.75"),
        ("PixelSpacing", b"", "no PixelSpacing"),
        ("ImagePositionPatient", b"1\\2", r"ImagePositionPatient 1\2"),
        ("ImageOrientationPatient", b"1\\0\\0\\0\\1", r"ImageOrientationPatient 1\0\0\0\1"),
        ("RescaleSlope", b"0", "RescaleSlope 0"),
        ("RescaleSlope", b"1\\2", r"RescaleSlope 1\2"),
        ("RescaleIntercept", b"a", "RescaleIntercept a"),
    ],
)
def test_header_values_that_are_not_the_numbers_expected(series, field, raw, shown):
    series.save(2, RescaleSlope="1.000")
    write_raw(series.folder / NAMES[2], field, raw)
    with pytest.raises(InputError) as raised:
        open_volume(series.folder)
    assert str(series.folder / NAMES[2]) in str(raised.value) and shown in str(raised.value)


def test_an_empty_rescale_is_that_of_the_standard(series):
    for k in range(5):
        series.save(k, RescaleSlope="", RescaleIntercept="")
    assert np.array_equal(open_volume(series.folder).voxels.compute(), series.stored)


@pytest.mark.parametrize("folder", [False, True])
def test_an_enhanced_ct_is_a_volume(tmp_path, folder):
    stored = np.random.default_rng(1).integers(0, 3000, (5, 4, 6), np.uint16)
    order = [3, 0, 4, 1, 2]
    file = tmp_path / "enhanced.dcm"
    save_frames(file, stored[order], [(-10, -20, 30 + 2 * k) for k in order])
    volume = open_volume(tmp_path if folder else file)
    assert volume.spacing == (2, 0.75, 0.5)
    assert volume.canonical_affine[:3, 3] == pytest.approx([10, 20, 30])
    assert np.array_equal(volume.voxels.compute(), 2 * stored.astype(int) - 1000)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(
    ("syntax", "encode"),
    [
        (JPEGLosslessSV1, imagecodecs.ljpeg_encode),
        (JPEGLSLossless, imagecodecs.jpegls_encode),
        (JPEG2000Lossless, lambda x: imagecodecs.jpeg2k_encode(x, level=0, codecformat="J2K")),
    ],
)
def test_compressed_slices_are_read(series, syntax, encode, signed):
    values = series.stored.astype(int) - (1500 if signed else 0)
    for k in range(5):
        series.save(k, PixelRepresentation=int(signed), RescaleIntercept=0)
        data = dcmread(series.folder / NAMES[k])
        data.PixelData = encapsulate([encode(values[k].astype(np.uint16))])
        data["PixelData"].is_undefined_length = True
        data.file_meta.TransferSyntaxUID = syntax
        data.save_as(series.folder / NAMES[k])
    assert np.array_equal(open_volume(series.folder).voxels.compute(), values)
