"""Volumes in a real viewer: opened by the readers in millimetres, labels saved by the writer."""

import nibabel
import numpy as np
import pytest
import tifffile
import zarr
from napari.layers import Labels

from napari_msankd.layers import placement
from napari_msankd.readers import volume_reader
from src_training.errors import InputError
from src_training.io.volumes.registry import open_volume
from tests.io.volumes.files import Series, affine_of, save, save_ome

PLUGIN = "napari-msankd"


@pytest.fixture
def shown(viewer, npe2pm, manifest):
    npe2pm.register(manifest)
    return viewer


@pytest.fixture
def scan(tmp_path):
    voxels = np.random.default_rng(0).integers(-1000, 1000, (12, 10, 8), np.int16)
    return save(tmp_path / "scan.nii.gz", voxels, affine_of("RSA"))


def in_millimetres(layer):
    assert layer.axis_labels == ("z", "y", "x")
    assert [str(unit) for unit in layer.units] == ["millimeter"] * 3


def test_a_nifti_is_a_lazy_layer_in_millimetres(shown, scan):
    (layer,) = shown.open(scan, plugin=PLUGIN)
    in_millimetres(layer)
    volume = open_volume(scan)
    assert layer.name == "scan" and layer.metadata["source"] == str(scan)
    assert tuple(layer.scale) == pytest.approx(volume.spacing)
    assert hasattr(layer.data, "dask")
    shown.dims.set_point(0, 3 * layer.scale[0])
    assert np.array_equal(np.asarray(layer.data[3]), volume.voxels[3].compute())


def organs(value=2):
    labels = np.zeros((12, 10, 8), np.int16)
    labels[2:6, 3:8], labels[7:9] = 1, value
    return labels


@pytest.mark.parametrize(
    ("file", "value"),
    [("liver_seg.nii.gz", 200), ("masks/a.nii.gz", 200), ("labelsTr/a.nii", 2), ("organs.nii", 2)],
)
def test_a_nifti_of_labels_is_a_labels_layer(file, value, shown, tmp_path):
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    (layer,) = shown.open(save(path, organs(value), affine_of("RSA")), plugin=PLUGIN)
    assert isinstance(layer, Labels) and layer.data.dtype == np.uint8
    in_millimetres(layer)
    assert np.array_equal(layer.data, open_volume(path).voxels.compute())
    layer.data_setitem((np.array([0]),) * 3, 1)
    assert layer.save(str(tmp_path / "again.nii.gz"))


def test_an_intent_code_tells_labels(tmp_path):
    path = tmp_path / "a.nii"
    image = nibabel.Nifti1Image(organs(43).astype(np.float32), affine_of("RSA"))
    image.header.set_intent("label")
    nibabel.save(image, path)
    [(data, _, kind)] = volume_reader(str(path))(str(path))
    assert kind == "labels" and data.max() == 43


@pytest.mark.parametrize(
    ("file", "voxels"),
    [
        ("images/a.nii", organs()),
        ("a_seg.nii", organs() / 3),
        ("a_seg.nii", organs() - 1),
        ("a_mask.nii", np.arange(12 * 80, dtype=np.int16).reshape(12, 10, 8)),
        ("signal.nii", np.arange(12 * 80, dtype=np.int16).reshape(12, 10, 8) % 40),
        ("blank.nii", organs() * 0),
    ],
    ids=["in images", "fractions", "negative", "many values", "word within", "blank"],
)
def test_what_is_no_label_is_an_image(file, voxels, tmp_path):
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    save(path, voxels)
    [(_, _, kind)] = volume_reader(str(path))(str(path))
    assert kind == "image"


def test_a_dicom_folder_is_a_layer(shown, tmp_path):
    series = Series(tmp_path / "series")
    (layer,) = shown.open(series.folder, plugin=PLUGIN)
    in_millimetres(layer)
    assert tuple(layer.scale) == (2, 0.75, 0.5)
    assert np.array_equal(np.asarray(layer.data), series.stored.astype(int) - 1024)


def test_an_ome_zarr_is_a_pyramid_and_its_channels_are_layers(shown, tmp_path):
    voxels = np.random.default_rng(0).integers(0, 99, (2, 6, 64, 64), np.int16)
    path = save_ome(tmp_path / "a.zarr", voxels, axes="czyx")
    first, second = shown.open(path, plugin=PLUGIN)
    in_millimetres(first)
    assert (first.name, second.name) == ("a arterial", "a venous")
    assert second.multiscale and [level.shape for level in second.data] == [
        (6, 64, 64),
        (6, 32, 32),
    ]
    assert tuple(first.scale) == pytest.approx((2, 0.75, 0.5))


def test_other_folders_files_and_bare_arrays_are_left_to_others(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"no volume")
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((6, 9, 9), np.uint8))
    zarr.create_array(tmp_path / "a.zarr", shape=(3, 4, 5), dtype="uint8")
    for name in ("images", "a.tif", "a.zarr", "not there"):
        assert volume_reader(str(tmp_path / name)) is None
    assert volume_reader([str(tmp_path / "images")]) is None


def test_a_broken_volume_is_one_sentence(shown, scan):
    scan.write_bytes(scan.read_bytes()[:50])
    with pytest.raises(InputError, match=r"scan\.nii\.gz cannot be read"):
        shown.open(scan, plugin=PLUGIN)


def test_labels_of_a_nifti_go_back_onto_its_grid(shown, scan, tmp_path):
    (image,) = shown.open(scan, plugin=PLUGIN)
    voxels = (np.asarray(image.data) > 0).astype(np.int32)
    labels = Labels(voxels, metadata=image.metadata, **placement(image))
    shown.add_layer(labels)
    target = tmp_path / "labels.nii.gz"
    assert labels.save(str(target)) == [str(target)]
    source, written = nibabel.load(scan), nibabel.load(target)
    assert np.array_equal(written.affine, source.affine)
    assert np.array_equal(np.asarray(written.dataobj), np.asarray(source.dataobj) > 0)


@pytest.mark.parametrize("name", ["b.nii.gz", "b.tif", "b.zarr"])
def test_labels_of_any_layer_keep_its_scale(name, shown, tmp_path):
    painted = np.random.default_rng(0).integers(0, 3, (4, 10, 12), np.uint8)
    labels = shown.add_labels(painted, scale=(2000, 750, 500), units=["um"] * 3)
    labels.save(str(tmp_path / name), plugin=PLUGIN)
    again = open_volume(tmp_path / name)
    assert again.spacing == pytest.approx((2, 0.75, 0.5))
    assert np.array_equal(again.voxels.compute(), painted)


def test_the_labels_of_segment_know_their_volume(shown, widget, segmented, tmp_path):
    voxels = np.random.default_rng(0).integers(0, 255, (40, 32, 2), np.int16)
    path = save(tmp_path / "scan.nii", voxels, affine_of("LPS"))
    (image,) = shown.open(path, plugin=PLUGIN)
    result = segmented()
    assert result.metadata["volume"] is image.metadata["volume"]


def test_a_flat_layer_is_refused(shown, tmp_path):
    labels = shown.add_labels(np.zeros((4, 5), int), name="flat")
    with pytest.raises(RuntimeError, match=r"layer 'flat' has shape \(4, 5\)"):
        labels.save(str(tmp_path / "b.nii.gz"))
    assert not list(tmp_path.glob("b*"))
