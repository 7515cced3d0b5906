"""Invalid header values: the documented default, or one sentence that names file and field."""

import json
import struct

import nibabel
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.datadict import tag_for_keyword

from src_training.errors import InputError
from src_training.io.volumes.registry import open_volume, open_volumes, write_labels_like
from tests.io.volumes.files import Series, save, save_frames, save_ome

VOXELS = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
NUMBERS = st.sampled_from([0, 1, -1, 7, 255, 1e38, -1e-30, float("nan"), float("inf")])
TEXTS = st.sampled_from(
    [b"", b"  ", b"0", b"-1", b"1\\2", b"1\\2\\3\\4\\5", b"1,5\\2,5", b"nan", b"inf", b"abc"]
) | st.sampled_from(
    [b"1e400", b"2\\0\\0\\0\\2\\0", b"-0.5\\0.5", b"\xff\xfe", b"\x00\x01", b"\x08\x00", b"1" * 20]
)
JSON = st.sampled_from(
    [None, 0, -1, "a", "", [], {}, [1, 2], float("nan"), True, [None] * 3, ["1,5", 1, 1], [{}]]
)
quick = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def opened_or_refused(path):
    """Open, read, and write labels of it: InputError at most, and no grid of nonsense."""
    try:
        for volume in open_volumes(path):
            volume.voxels.compute()
            assert volume.spacing is None or 0 < min(volume.spacing) <= max(volume.spacing) < np.inf
            assert volume.affine is None or np.isfinite(volume.affine).all()
            labels = np.zeros(volume.shape, np.uint8)
            write_labels_like(volume, labels, path.parent / "labels.nii.gz")
    except InputError as error:
        assert path.name in str(error)


@quick
@given(data=st.data())
def test_a_nifti_header_of_any_numbers(data, tmp_path):
    path = save(tmp_path / "a.nii", VOXELS)
    stored = bytearray(path.read_bytes())
    fields = nibabel.Nifti1Header.template_dtype.fields
    name = data.draw(st.sampled_from(sorted(fields)))
    dtype, offset = fields[name][:2]
    place = offset + dtype.base.itemsize * data.draw(
        st.integers(0, dtype.itemsize // dtype.base.itemsize - 1)
    )
    if dtype.base.kind == "S":
        value = data.draw(st.binary(min_size=dtype.itemsize, max_size=dtype.itemsize))
    else:
        with np.errstate(all="ignore"):
            value = np.array(data.draw(NUMBERS)).astype(dtype.base).tobytes()
    stored[place : place + len(value)] = value
    path.write_bytes(stored)
    opened_or_refused(path)


DICOM_FIELDS = [
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"),
    *("Rows", "Columns", "PhotometricInterpretation", "BitsStored", "BitsAllocated"),
    *("PixelRepresentation", "RescaleSlope", "RescaleIntercept", "SamplesPerPixel"),
    *("SOPClassUID", "SeriesInstanceUID", "PixelData"),
]


def with_value(file, name, value):
    """Write other bytes into a field of an explicit little-endian file."""
    stored, tag = file.read_bytes(), tag_for_keyword(name)
    at = stored.index(struct.pack("<HH", tag >> 16, tag & 0xFFFF), 132)
    long = stored[at + 4 : at + 6] == b"OW"
    start, form = (at + 12, "<I") if long else (at + 8, "<H")
    (length,) = struct.unpack(form, stored[start - struct.calcsize(form) : start])
    value += b" " * (len(value) % 2)
    head = stored[: start - struct.calcsize(form)] + struct.pack(form, len(value))
    file.write_bytes(head + value + stored[start + length :])


@quick
@given(name=st.sampled_from(DICOM_FIELDS), value=TEXTS)
def test_a_dicom_field_of_any_bytes(name, value, tmp_path_factory):
    series = Series(tmp_path_factory.mktemp("dicom") / "series")
    with_value(series.folder / "c", name, value)
    try:
        open_volume(series.folder).voxels.compute()
    except InputError as error:
        assert "series" in str(error)


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("ImagePositionPatient", b"1\\2", "1\\2; expected 3 numbers"),
        ("PixelSpacing", b"0,5\\0,5", "0,5\\0,5; expected 2 numbers"),
        ("PixelSpacing", b"-0.5\\0.5", "-0.5\\0.5; expected 2 numbers above 0"),
        ("PixelSpacing", b"0\\0.5", "0\\0.5; expected 2 numbers above 0"),
        ("ImageOrientationPatient", b"2\\0\\0\\0\\2\\0", "expected two directions of length 1"),
        ("ImageOrientationPatient", b"1\\0\\0\\0\\1", "expected 6 numbers"),
        ("RescaleSlope", b"0", "0; expected another number"),
        ("RescaleSlope", b"nan", "nan; expected 1 number"),
        ("BitsStored", b"\xff\xff", "65535; expected an integer from 1 to 32"),
        ("Rows", b"\x01\x00\x02\x00", "1\\2; expected 1 number"),
    ],
)
def test_a_dicom_field_is_named(name, value, found, tmp_path):
    series = Series(tmp_path / "series")
    for file in series.folder.iterdir():
        with_value(file, name, value)
    with pytest.raises(InputError) as refused:
        open_volume(series.folder)
    assert name in str(refused.value) and found in str(refused.value)


@pytest.mark.parametrize("name", ["RescaleSlope", "RescaleIntercept", "SliceThickness"])
def test_an_empty_dicom_field_has_its_default(name, tmp_path):
    series = Series(tmp_path / "series")
    for file in series.folder.iterdir():
        with_value(file, name, b"")
    offset = 0 if name == "RescaleIntercept" else -1024
    assert open_volume(series.folder).voxels.compute().min() == int(series.stored.min()) + offset


def test_an_enhanced_file_of_broken_groups(tmp_path):
    stored = np.zeros((3, 4, 6), np.uint16)
    positions = [(0, 0, 2.0 * k) for k in range(3)]
    save_frames(tmp_path / "ct.dcm", stored, positions, NumberOfFrames=2)
    with pytest.raises(InputError, match=r"ct\.dcm holds 2 frames"):
        open_volume(tmp_path / "ct.dcm")


def places(node, before=()):
    """All paths in JSON, as tuples of keys."""
    inner = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in inner:
        yield (*before, key)
        if isinstance(value, dict | list):
            yield from places(value, (*before, key))


@quick
@given(data=st.data(), zarr_format=st.sampled_from([2, 3]), value=JSON)
def test_zarr_metadata_of_any_json(data, zarr_format, value, tmp_path_factory):
    folder = tmp_path_factory.mktemp("zarr")
    path = save_ome(folder / "a.zarr", VOXELS, zarr_format)
    file = path / ("zarr.json" if zarr_format == 3 else ".zattrs")
    content = json.loads(file.read_text())
    place = data.draw(st.sampled_from(list(places(content))))
    holder = content
    for key in place[:-1]:
        holder = holder[key]
    if data.draw(st.booleans()):
        holder[place[-1]] = value
    else:
        del holder[place[-1]]
    file.write_text(json.dumps(content))
    opened_or_refused(path)


@pytest.mark.parametrize(
    "scale", [[1, 1], [1, 1, 1, 1, 1], [], "1", ["1,5", 1, 1], [0, 1, 1], [-1, 1, 1], [None, 1, 1]]
)
def test_a_zarr_scale_is_named(scale, tmp_path):
    path = save_ome(tmp_path / "a.zarr", VOXELS)
    content = json.loads((path / "zarr.json").read_text())
    [multiscale] = content["attributes"]["ome"]["multiscales"]
    multiscale["coordinateTransformations"][0]["scale"] = scale
    (path / "zarr.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"a\.zarr .*its scale is"):
        open_volume(path)


@pytest.mark.parametrize("size", ["nan", "inf", "0", "-1", "1,5", ""])
def test_an_ome_size_that_is_none_is_unknown(size, tmp_path):
    path = tmp_path / "a.ome.tif"
    metadata = {"axes": "ZYX", "PhysicalSizeX": 1.0, "PhysicalSizeY": 1.0, "PhysicalSizeZ": "@@@@"}
    tifffile.imwrite(path, VOXELS, ome=True, metadata=metadata)
    stored = path.read_bytes()
    assert stored.count(b'"@@@@"') == 1
    path.write_bytes(stored.replace(b'"@@@@"', b'"%s"' % size.ljust(4).encode()))
    volume = open_volume(path)
    assert volume.spacing is None
    assert any("PhysicalSizeZ" in note and size in note for note in volume.notes)


@quick
@given(st.integers(0, 1500), st.integers(0, 255))
def test_a_tiff_of_any_byte(tmp_path_factory, place, value):
    path = tmp_path_factory.mktemp("tiff") / "a.tif"
    metadata = {"axes": "ZYX", "spacing": 2.0, "unit": "mm"}
    tifffile.imwrite(path, VOXELS.astype(np.uint16), imagej=True, metadata=metadata)
    stored = bytearray(path.read_bytes())
    stored[place % len(stored)] = value
    path.write_bytes(stored)
    opened_or_refused(path)
