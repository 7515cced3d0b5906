"""TIFF stacks keep their spacing in a round trip."""

import errno

import numpy as np
import pytest
import tifffile

from src_training.errors import InputError
from src_training.io.volumes.registry import open_volume, write_labels_like


@pytest.fixture
def voxels():
    return np.random.default_rng(0).integers(-1000, 1000, (6, 20, 30), np.int16)


def imagej(path, voxels, unit="mm", per=1.0):
    tifffile.imwrite(
        path,
        (voxels + 1000).astype(np.uint16),
        imagej=True,
        resolution=(per / 0.5, per / 0.75),
        metadata={"axes": "ZYX", "spacing": 2.0 / per, "unit": unit},
    )


def ome(path, voxels, unit="mm", per=1.0):
    sizes = {"Z": 2.0 / per, "Y": 0.75 / per, "X": 0.5 / per}
    sizes = {f"PhysicalSize{axis}": size for axis, size in sizes.items()}
    units = {f"{name}Unit": unit for name in sizes}
    tifffile.imwrite(
        path, (voxels + 1000).astype(np.uint16), ome=True, metadata={"axes": "ZYX"} | sizes | units
    )


@pytest.mark.parametrize(("unit", "per"), [("mm", 1), ("cm", 10), ("micron", 1e-3), ("µm", 1e-3)])
@pytest.mark.parametrize("save", [imagej, ome])
def test_spacing_is_read_in_any_unit(save, unit, per, voxels, tmp_path):
    if save is imagej:
        unit = unit.replace("µ", r"\u00B5")  # as ImageJ writes it
    path = tmp_path / "a.ome.tif"
    save(path, voxels, unit, per)
    volume = open_volume(path)
    assert volume.spacing == pytest.approx((2, 0.75, 0.5), rel=1e-4)
    assert np.array_equal(volume.voxels.compute(), voxels + 1000)
    assert volume.voxels.dtype == np.uint16


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "zstd", "packbits"])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_a_stack_is_the_same_in_every_compression(photometric, compression, voxels, tmp_path):
    stored = (voxels + 1000).astype(np.uint16)
    values = 65535 - stored if photometric == "miniswhite" else stored
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stored, photometric=photometric, compression=compression)
    assert np.array_equal(open_volume(path).voxels.compute(), values)


def test_a_plain_stack_tells_no_spacing(voxels, tmp_path, monkeypatch):
    monkeypatch.setattr("src_training.io.volumes.tiff._CHUNK", 2400)
    tifffile.imwrite(tmp_path / "a.tif", voxels, compression="zlib")
    volume = open_volume(tmp_path / "a.tif")
    assert volume.spacing is None
    assert volume.voxels.chunks[0] == (2, 2, 2)
    assert np.array_equal(volume.voxels.compute(), voxels)


@pytest.mark.parametrize("name", ["b.tif", "b.ome.tif"])
def test_labels_keep_the_spacing(name, voxels, tmp_path):
    imagej(tmp_path / "a.tif", voxels)
    volume = open_volume(tmp_path / "a.tif")
    labels = np.random.default_rng(1).integers(0, 4, volume.shape, np.int64)
    write_labels_like(volume, labels, tmp_path / name)
    again = open_volume(tmp_path / name)
    assert again.voxels.dtype == np.uint8 and np.array_equal(again.voxels.compute(), labels)
    assert again.spacing == pytest.approx(volume.spacing, rel=1e-6)
    with tifffile.TiffFile(tmp_path / name) as file:
        assert file.is_ome == (".ome." in name) and file.is_imagej == (".ome." not in name)


def test_labels_of_an_unknown_spacing_tell_none(voxels, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", voxels)
    volume = open_volume(tmp_path / "a.tif")
    write_labels_like(volume, voxels > 0, tmp_path / "b.tif")
    again = open_volume(tmp_path / "b.tif")
    assert again.spacing is None and np.array_equal(again.voxels.compute(), voxels > 0)


@pytest.mark.parametrize("shape", [(20, 30), (3, 6, 20, 30), (20, 30, 3)])
def test_a_file_that_is_no_stack(shape, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros(shape, np.uint8))
    with pytest.raises(InputError, match=r"a\.tif has axes .*expected a stack"):
        open_volume(tmp_path / "a.tif")


def test_a_file_cut_short(voxels, tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, voxels, compression="zlib")
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(InputError, match=r"a\.tif"):
        open_volume(path).voxels.compute()


def test_the_volume_itself_is_never_replaced(voxels, tmp_path):
    imagej(tmp_path / "a.tif", voxels)
    with pytest.raises(InputError, match="is the volume itself"):
        write_labels_like(open_volume(tmp_path / "a.tif"), voxels > 0, tmp_path / "a.tif")
    assert np.array_equal(tifffile.imread(tmp_path / "a.tif"), voxels + 1000)


def test_a_full_disk_leaves_the_former_file(tmp_path, largest_file):
    noise = np.random.default_rng(0).integers(0, 255, (6, 40, 60), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", noise)
    volume = open_volume(tmp_path / "a.tif")
    write_labels_like(volume, noise, tmp_path / "b.tif")
    former = (tmp_path / "b.tif").read_bytes()
    with largest_file(2000), pytest.raises(OSError) as told:
        write_labels_like(volume, noise, tmp_path / "b.tif")
    assert told.value.errno == errno.EFBIG and told.value.filename == str(tmp_path / "b.tif")
    assert (tmp_path / "b.tif").read_bytes() == former and len(list(tmp_path.iterdir())) == 2
