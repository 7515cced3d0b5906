"""zarr v2 and v3 and their OME-Zarr versions: reading by attributes, and writing labels."""

import errno

import numcodecs
import numpy as np
import pytest
import zarr

from src_training.errors import InputError
from src_training.io.volumes.registry import open_volume, open_volumes, write_labels_like

from .files import save, save_ome


@pytest.fixture
def voxels():
    return np.random.default_rng(0).integers(-1000, 1000, (6, 20, 30), np.int16)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_bare_array_comes_in_its_own_chunks(zarr_format, voxels, tmp_path):
    path = tmp_path / "a.zarr"
    zarr.create_array(path, data=voxels, chunks=(2, 10, 30), zarr_format=zarr_format)
    volume = open_volume(path)
    assert volume.voxels.chunks == ((2, 2, 2), (10, 10), (30,))
    assert volume.spacing is None and volume.format == "omezarr"
    assert np.array_equal(volume.voxels.compute(), voxels)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_multiscale_comes_with_levels_and_spacing(zarr_format, voxels, tmp_path):
    volume = open_volume(save_ome(tmp_path / "a.zarr", voxels, zarr_format))
    assert volume.spacing == pytest.approx((2, 0.75, 0.5))
    assert np.array_equal(volume.voxels.compute(), voxels)
    assert [level.shape for level in volume.coarser] == [(6, 10, 15)]
    assert np.array_equal(volume.coarser[0].compute(), voxels[:, ::2, ::2])


def test_each_channel_is_a_volume(voxels, tmp_path):
    path = save_ome(tmp_path / "a.zarr", np.stack([voxels, -voxels])[None], axes="tczyx")
    first, second = open_volumes(path)
    assert (first.name, second.name) == ("arterial", "venous")
    assert np.array_equal(second.voxels.compute(), -voxels)
    with pytest.raises(InputError, match=r"2 channels \(arterial, venous\); expected one"):
        open_volume(path)


def test_without_a_unit_there_is_no_spacing(voxels, tmp_path):
    assert open_volume(save_ome(tmp_path / "a.zarr", voxels, unit=None)).spacing is None


def several_times(path, voxels):
    save_ome(path, np.stack([voxels, voxels]), axes="tzyx")
    return "has 2 times"


def two_axes(path, voxels):
    zarr.create_array(path, data=voxels[0])
    return "has 2 axes, 20 x 30"


def no_image(path, voxels):
    zarr.create_group(path)
    return "without multiscales"


def complex_numbers(path, voxels):
    zarr.create_array(path, data=voxels.astype(np.complex64))
    return "holds complex64"


def broken_attributes(path, voxels):
    save_ome(path, voxels)
    (path / "zarr.json").write_text("{")
    return "cannot be read"


def level_that_is_not_there(path, voxels):
    save_ome(path, voxels)
    (path / "s1" / "zarr.json").unlink()
    return "cannot be read"


@pytest.mark.parametrize(
    "fault",
    [
        several_times,
        two_axes,
        no_image,
        complex_numbers,
        broken_attributes,
        level_that_is_not_there,
    ],
)
def test_a_store_that_is_not_one_volume(fault, voxels, tmp_path):
    words = fault(tmp_path / "a.zarr", voxels)
    with pytest.raises(InputError) as told:
        open_volume(tmp_path / "a.zarr")
    assert str(tmp_path / "a.zarr") in str(told.value) and words in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("zarr_format", "compressors"),
    [
        (2, numcodecs.Blosc()),
        (3, zarr.codecs.BloscCodec()),
        (3, [zarr.codecs.BloscCodec(), zarr.codecs.Crc32cCodec()]),
    ],
)
def test_a_truncated_blosc_chunk_is_refused(zarr_format, compressors, voxels, tmp_path):
    path = tmp_path / "a.zarr"
    options = {"compressors": compressors, "zarr_format": zarr_format}
    zarr.create_array(path, data=voxels, chunks=(1, 20, 30), **options)
    volume = open_volume(path)
    assert np.array_equal(volume.voxels.compute(), voxels)
    chunk = path / ("c/3/0/0" if zarr_format == 3 else "3.0.0")
    chunk.write_bytes(chunk.read_bytes()[:-40])
    assert np.array_equal(volume.voxels[2].compute(), voxels[2])
    with pytest.raises(InputError, match=r"a\.zarr"):
        volume.voxels[3].compute()


def test_a_sharded_blosc_array_is_read(voxels, tmp_path):
    path, codec = tmp_path / "a.zarr", zarr.codecs.BloscCodec()
    options = {"chunks": (1, 20, 30), "shards": (3, 20, 30), "compressors": codec}
    zarr.create_array(path, data=voxels, **options)
    volume = open_volume(path)
    assert volume.voxels.chunks[0] == (3, 3)
    assert np.array_equal(volume.voxels.compute(), voxels)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_corrupt_chunk_is_told_and_leaves_the_others(zarr_format, voxels, tmp_path):
    path = save_ome(tmp_path / "a.zarr", voxels, zarr_format, levels=1)
    chunk = path / "s0" / ("c/3/0/0" if zarr_format == 3 else "3.0.0")
    chunk.write_bytes(chunk.read_bytes()[:40])
    volume = open_volume(path)
    assert np.array_equal(volume.voxels[2].compute(), voxels[2])
    with pytest.raises(InputError, match=r"a\.zarr.*expected"):
        volume.voxels[3].compute()


@pytest.mark.parametrize(("zarr_format", "version"), [(2, "0.4"), (3, "0.5")])
def test_labels_join_those_of_their_image(zarr_format, version, voxels, tmp_path):
    path = save_ome(tmp_path / "a.zarr", voxels, zarr_format)
    volume = open_volume(path)
    for name in ("liver", "kidney", "liver"):
        write_labels_like(volume, voxels > 0, path / "labels" / name)
    group = zarr.open_group(path / "labels", mode="r")
    attributes = dict(group.attrs)
    assert attributes.get("ome", attributes)["labels"] == ["liver", "kidney"]
    own = dict(group["liver"].attrs)
    own = own.get("ome", own)
    assert own["image-label"]["source"] == {"image": "../../"}
    assert own.get("version", own["multiscales"][0].get("version")) == version
    again = open_volume(path / "labels" / "liver")
    assert again.spacing == pytest.approx(volume.spacing) and again.format == "omezarr"
    assert again.voxels.dtype == np.uint8 and np.array_equal(again.voxels.compute(), voxels > 0)
    assert sorted(file.name for file in (path / "labels").iterdir() if file.is_dir()) == [
        "kidney",
        "liver",
    ]
    assert np.array_equal(open_volume(path).voxels.compute(), voxels)


def test_what_is_no_labels_is_never_replaced(voxels, tmp_path):
    volume = open_volume(save_ome(tmp_path / "a.zarr", voxels))
    save_ome(tmp_path / "b.zarr", voxels)
    (tmp_path / "c.zarr").mkdir()
    for name in ("b.zarr", "c.zarr"):
        with pytest.raises(InputError, match="exists and holds no labels"):
            write_labels_like(volume, voxels > 0, tmp_path / name)
    assert np.array_equal(open_volume(tmp_path / "b.zarr").voxels.compute(), voxels)


def test_a_full_disk_leaves_the_former_labels(tmp_path, largest_file):
    noise = np.random.default_rng(0).integers(0, 255, (4, 64, 64), np.uint8)
    volume = open_volume(save_ome(tmp_path / "a.zarr", noise, levels=1))
    target = tmp_path / "b.zarr"
    write_labels_like(volume, noise, target)
    with largest_file(2000), pytest.raises(OSError) as told:
        write_labels_like(volume, noise, target)
    assert told.value.errno == errno.EFBIG and told.value.filename == str(target)
    assert np.array_equal(open_volume(target).voxels.compute(), noise)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.zarr", "b.zarr"]


def test_a_path_that_is_no_volume(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "a.txt").write_text("text")
    for name, words in (("folder", "is no volume"), ("a.txt", "is no volume"), ("b", "not exist")):
        with pytest.raises(InputError, match=words):
            open_volume(tmp_path / name)


def add_translation(path, zarr_format, levels=1, of_image=False):
    """Move an image by 30, 12 and -8 micrometres before, or after, its common scale of 10."""
    group = zarr.open_group(path, mode="a")
    attributes = dict(group.attrs)
    holder = attributes["ome"] if zarr_format == 3 else attributes
    scales = holder["multiscales"][0]
    move = {"type": "translation", "translation": [30, 12, -8]}
    places = [scales] if of_image else scales["datasets"][:levels]
    for place in places:
        place["coordinateTransformations"].append(move)
    group.attrs.update(attributes)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(("of_image", "moved"), [(False, 10), (True, 1)])
def test_a_translation_is_the_place_of_image_and_labels(
    voxels, tmp_path, zarr_format, of_image, moved
):
    path = save_ome(tmp_path / "a.zarr", voxels, zarr_format)
    add_translation(path, zarr_format, of_image=of_image)
    volume = open_volume(path)
    expected = np.array([30, 12, -8]) * moved / 1000
    assert volume.origin == pytest.approx(expected)
    beside = path / "labels" / "liver"
    for target in (beside, tmp_path / "labels.ome.zarr", tmp_path / "labels.nii.gz"):
        write_labels_like(volume, np.ones(volume.shape, np.uint8), target)
        written = open_volume(target)
        assert written.spacing == pytest.approx(volume.spacing)
        assert written.origin == pytest.approx(expected, abs=1e-6)


def test_the_place_of_a_nifti_goes_into_a_zarr(tmp_path):
    affine = np.diag([-0.8, -0.8, 3.0, 1.0])
    affine[:3, 3] = 120, 80, -300
    volume = open_volume(save(tmp_path / "ct.nii", np.zeros((4, 5, 6), np.int16), affine))
    assert volume.origin == pytest.approx((-300, -80, -120))
    write_labels_like(volume, np.ones(volume.shape, np.uint8), tmp_path / "labels.zarr")
    assert open_volume(tmp_path / "labels.zarr").origin == pytest.approx((-300, -80, -120))


def test_a_place_that_a_zarr_cannot_hold_is_refused(tmp_path):
    turned = np.eye(4)
    turned[:2, :2] = [[np.cos(0.1), -np.sin(0.1)], [np.sin(0.1), np.cos(0.1)]]
    volume = open_volume(save(tmp_path / "ct.nii", np.zeros((4, 5, 6), np.int16), turned))
    with pytest.raises(InputError, match=r"labels\.zarr cannot hold the place of .*ct\.nii"):
        write_labels_like(volume, np.ones(volume.shape, np.uint8), tmp_path / "labels.zarr")
    assert not (tmp_path / "labels.zarr").exists()


@pytest.mark.parametrize(
    ("version", "axes"), [("0.1", None), ("0.2", None), ("0.3", ["z", "y", "x"])]
)
def test_former_versions_are_read(voxels, tmp_path, version, axes):
    group = zarr.create_group(tmp_path / "a.zarr", zarr_format=2)
    lead = () if axes else (None, None)
    group.create_array("0", data=voxels[lead])
    scales = {"version": version, "datasets": [{"path": "0"}]} | ({"axes": axes} if axes else {})
    group.attrs.update({"multiscales": [scales], "omero": None})
    volume = open_volume(tmp_path / "a.zarr")
    assert volume.spacing is None
    assert np.array_equal(volume.voxels.compute(), voxels)
