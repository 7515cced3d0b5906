"""Read, segmented, written and read again: every voxel stays where the format's own library has it.

The places and values expected are those that nibabel, pydicom, tifffile and zarr give.
"""

import nibabel
import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nibabel.affines import apply_affine
from pydicom import dcmread
from pydicom.uid import generate_uid
from scipy.spatial import cKDTree

from src_training.io.decoders.tiff import series_notes
from src_training.io.images import image_shape, read_image
from src_training.io.volumes.registry import open_volume, write_labels_like
from tests.gui.test_volume_place import ORDERS, turn
from tests.io.volumes.files import save_slice

SHAPE = (4, 5, 10)
TO_RAS = np.array([-1, -1, 1])
small = st.floats(-0.6, 0.6)
angles = st.tuples(small, small, small) | st.just((0, 0, 0))
spacings = st.tuples(*[st.floats(0.3, 5)] * 3)
offsets = st.tuples(*[st.floats(-400, 400)] * 3)
quick = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def unique(shape, dtype=np.int16):
    """Every voxel of another value."""
    return np.random.default_rng(0).permutation(int(np.prod(shape))).reshape(shape).astype(dtype)


def places_of(volume):
    """RAS+ of every voxel by its value."""
    voxels = volume.voxels.compute()
    places = apply_affine(volume.canonical_affine, np.argwhere(np.ones(volume.shape)))
    return places[np.argsort(voxels.ravel(), kind="stable")]


def segmented(volume, path):
    """RAS+ of the brighter half, by what is written as NIfTI and nibabel."""
    voxels = volume.voxels
    half = float(np.median(voxels.compute()))
    write_labels_like(volume, voxels > half, path)
    image = nibabel.load(path)
    return apply_affine(image.affine, np.argwhere(np.asarray(image.dataobj)))


def assert_same_places(places, expected):
    """Each expected place has one of its own within 2e-3 mm, whatever their order."""
    distances, nearest = cKDTree(places).query(expected)
    assert sorted(nearest) == list(range(len(places)))
    assert distances.max() < 2e-3


@quick
@given(st.sampled_from(ORDERS), angles, spacings, offsets, st.booleans(), st.booleans(), st.data())
def test_a_dicom_series_of_any_plane(
    tmp_path_factory, order, tilt, spacing, offset, signed, backwards, data
):
    folder = tmp_path_factory.mktemp("dicom")
    axes, signs = order
    across, down, along = (turn(tilt) @ np.eye(3)[:, axes] @ np.diag(signs)).T.round(9)
    slope, intercept = data.draw(st.sampled_from([(1, -1024), (2, 0), (0.5, 10.25), (-1, 3)]))
    stored = unique(SHAPE, np.int16 if signed else np.uint16) - (50 if signed else 0)
    series = generate_uid()
    names = data.draw(st.permutations(range(len(stored))))
    for k, pixels in enumerate(stored):
        step = -k if backwards else k
        position = np.round(np.array(offset) + along * step * spacing[2], 6)
        save_slice(
            folder / f"{names[k]}.dcm",
            pixels,
            position.tolist(),
            series,
            ImageOrientationPatient=[*across.tolist(), *down.tolist()],
            PixelSpacing=[round(spacing[1], 6), round(spacing[0], 6)],
            PixelRepresentation=int(signed),
            RescaleSlope=slope,
            RescaleIntercept=intercept,
        )
    expected = {}
    for file in folder.iterdir():
        header = dcmread(file)
        x, y = np.reshape(np.array(header.ImageOrientationPatient, float), (2, 3))
        rows, columns = map(float, header.PixelSpacing)
        pixels = header.pixel_array * float(header.RescaleSlope) + float(header.RescaleIntercept)
        for (row, column), value in np.ndenumerate(pixels):
            place = np.array(header.ImagePositionPatient, float)
            expected[value] = (place + x * column * columns + y * row * rows) * TO_RAS
    volume = open_volume(folder)
    values = sorted(expected)
    np.testing.assert_allclose(np.sort(volume.voxels.compute().ravel()), values)
    np.testing.assert_allclose(places_of(volume), [expected[v] for v in values], atol=1e-4)
    brighter = [expected[v] for v in values if v > np.median(values)]
    assert_same_places(segmented(volume, folder / "a.nii.gz"), brighter)


@quick
@given(st.sampled_from(ORDERS), angles, spacings, offsets, st.sampled_from(["q", "s", "both"]))
def test_a_nifti_keeps_both_of_its_forms(tmp_path_factory, order, tilt, spacing, offset, forms):
    folder = tmp_path_factory.mktemp("nifti")
    axes, signs = order
    affine = np.eye(4)
    affine[:3, :3] = turn(tilt) @ np.eye(3)[:, axes] @ np.diag(signs) @ np.diag(spacing)
    affine[:3, 3] = offset
    other = affine.copy()
    other[:3, 3] += 7
    image = nibabel.Nifti1Image(unique(SHAPE), affine)
    image.header.set_xyzt_units("mm")
    image.set_qform(other if forms == "both" else affine, 0 if forms == "s" else 1)
    image.set_sform(affine, 0 if forms == "q" else 2)
    nibabel.save(image, folder / "a.nii.gz")
    source = nibabel.load(folder / "a.nii.gz")
    volume = open_volume(folder / "a.nii.gz")
    places = apply_affine(source.affine, np.argwhere(np.ones(SHAPE)))
    values = np.asarray(source.dataobj).ravel()
    np.testing.assert_allclose(places_of(volume), places[np.argsort(values)], atol=1e-4)
    brighter = places[values > np.median(values)]
    assert_same_places(segmented(volume, folder / "b.nii.gz"), brighter)
    written = nibabel.load(folder / "b.nii.gz").header
    for name in ("qform", "sform"):
        former, now = (
            getattr(each, f"get_{name}")(coded=True) for each in (source.header, written)
        )
        assert former[1] == now[1]
        if former[1]:
            np.testing.assert_allclose(now[0], former[0], atol=1e-4)


DTYPES = [*("u1", "i1", "u2", "i2", "u4", "i4", "f2", "f4", "f8")]
PACKED = [None, "zlib", "lzw", "zstd", "packbits", "lzma"]


@quick
@given(st.data())
def test_a_tiff_stack_of_any_kind(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("tiff") / "a.tif"
    draw = lambda *choices: data.draw(st.sampled_from(choices))  # noqa: E731
    dtype = np.dtype(draw(*DTYPES))
    voxels = unique((3, 32, 48)).astype(dtype)
    photometric = draw("minisblack", "miniswhite") if dtype.kind == "u" else "minisblack"
    tifffile.imwrite(
        path,
        voxels,
        byteorder=draw("<", ">"),
        bigtiff=draw(False, True),
        compression=draw(*PACKED),
        tile=draw(None, (16, 16), (32, 48)),
        photometric=photometric,
        metadata=draw(None, {"axes": "ZYX"}),
    )
    stored = tifffile.imread(path)
    expected = np.iinfo(dtype).max - stored if photometric == "miniswhite" else stored
    volume = open_volume(path)
    found = volume.voxels.compute()
    assert found.dtype == dtype and np.array_equal(found, expected)
    assert np.array_equal(read_image(path), expected)
    labels = np.asarray(expected > np.median(expected))
    write_labels_like(volume, labels, path.with_name("b.tif"))
    assert np.array_equal(tifffile.imread(path.with_name("b.tif")), labels)


@quick
@given(st.data())
def test_a_color_tiff_of_any_layout(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("tiff") / "a.tif"
    draw = lambda *choices: data.draw(st.sampled_from(choices))  # noqa: E731
    pixels = unique((32, 48, 3)).astype(draw("u1", "u2", "f4"))
    separate = draw(False, True)
    orientation = draw(*range(1, 9))
    tifffile.imwrite(
        path,
        np.moveaxis(pixels, -1, 0) if separate else pixels,
        photometric="rgb",
        planarconfig="separate" if separate else "contig",
        byteorder=draw("<", ">"),
        bigtiff=draw(False, True),
        compression=draw(*PACKED),
        tile=draw(None, (16, 16)),
        extratags=[(274, 3, 1, orientation, True)],
        metadata=None,
    )
    turned = np.swapaxes(pixels, 0, 1) if orientation >= 5 else pixels
    rows = slice(None, None, -1 if orientation in (3, 4, 7, 8) else 1)
    columns = slice(None, None, -1 if orientation in (2, 3, 6, 7) else 1)
    assert np.array_equal(read_image(path), turned[rows, columns])


@quick
@given(st.data())
def test_an_ome_zarr_of_any_version(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("zarr")
    path = folder / "a.zarr"
    version = data.draw(st.sampled_from(["0.1", "0.2", "0.3", "0.4", "0.5"]))
    former = version < "0.4"
    axes = data.draw(st.sampled_from(["tczyx"] if version < "0.3" else ["zyx", "czyx", "tczyx"]))
    unit, in_mm = data.draw(st.sampled_from([("micrometer", 1e-3), ("millimeter", 1.0)]))
    scale, start = data.draw(spacings), data.draw(offsets)
    moved = data.draw(st.booleans())
    voxels = unique(SHAPE).reshape((1,) * (len(axes) - 3) + SHAPE)
    group = zarr.create_group(path, zarr_format=3 if version == "0.5" else 2)
    group.create_array("0", data=voxels)
    lead = len(axes) - 3
    steps = [{"type": "scale", "scale": [1.0] * lead + list(scale)}]
    if moved:
        steps.append({"type": "translation", "translation": [0.0] * lead + list(start)})
    dataset = {"path": "0"} | ({} if former else {"coordinateTransformations": steps})
    kinds = {"t": {"type": "time"}, "c": {"type": "channel"}}
    named = [{"name": axis, **kinds.get(axis, {"type": "space", "unit": unit})} for axis in axes]
    scales = {"version": version, "datasets": [dataset]}
    if version >= "0.3":
        scales["axes"] = list(axes) if former else named
    content = {"multiscales": [scales]}
    group.attrs.update({"ome": {"version": "0.5"} | content} if version == "0.5" else content)
    volume = open_volume(path)
    stored = np.asarray(zarr.open_array(path / "0", mode="r")).reshape(SHAPE)
    assert np.array_equal(volume.voxels.compute(), stored)
    assert (volume.spacing is None) == former
    write_labels_like(volume, stored > np.median(stored), path / "labels" / "a")
    labels = open_volume(path / "labels" / "a")
    assert np.array_equal(labels.voxels.compute(), stored > np.median(stored))
    if former:
        assert labels.spacing is None
        return
    index = np.argwhere(stored > np.median(stored))
    begin = np.array(start) if moved else np.zeros(3)
    expected = (index * scale + begin) * in_mm
    for each in (volume, labels):
        found = apply_affine(each.world_affine, index)
        np.testing.assert_allclose(found, expected, atol=1e-4)
    in_nifti = segmented(volume, folder / "a.nii.gz")
    to_ras = expected[:, ::-1] * TO_RAS
    assert_same_places(in_nifti, to_ras)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_preview_in_a_sub_ifd_is_not_the_image(compression, tmp_path):
    pixels, path = unique((40, 60)).astype(np.uint8), tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(pixels, subifds=1, compression=compression, photometric="minisblack")
        file.write(pixels[::4, ::4], subfiletype=1, photometric="minisblack")
    assert np.array_equal(read_image(path), pixels)


def test_a_preview_before_the_image_is_not_the_image(tmp_path):
    pixels, path = unique((40, 60)).astype(np.uint8), tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(pixels[::4, ::4], subfiletype=1, photometric="minisblack")
        file.write(pixels, photometric="minisblack")
    assert np.array_equal(read_image(path), pixels)
    assert image_shape(path) == (40, 60)
    [note] = series_notes(path)
    assert "10 × 15 and 40 × 60" in note and "number 2 is read" in note
