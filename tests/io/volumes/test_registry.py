"""A new volume format needs only a module and an entry in the registry."""

import io
from pathlib import Path

import dask.array as da
import numpy as np
import pytest

from src_training.data.domain import Domain
from src_training.data.validation import inspect_folder
from src_training.io.atomic import write_bytes
from src_training.io.volumes.base import Volume, VolumeFormat
from src_training.io.volumes.registry import (
    FORMATS,
    format_of,
    label_path,
    list_folder,
    open_volume,
    volume_name,
    write_labels_like,
)

from .files import WRITERS, save_volume

SPACING = (2.5, 0.5, 0.75)


def _write_npz(path, voxels, spacing):
    file = io.BytesIO()
    np.savez(file, voxels=voxels, spacing=spacing)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, file.getvalue())


def _read_npz(path):
    with np.load(path) as file:
        voxels, spacing = file["voxels"], tuple(file["spacing"].tolist())
    return [Volume(da.from_array(voxels), spacing, path, "npz")]


NPZ = VolumeFormat(
    name="npz",
    suffixes=(".npz",),
    recognises=lambda path: path.suffix == ".npz",
    read=_read_npz,
    write_labels=lambda volume, labels, path: _write_npz(path, labels, volume.spacing),
    label_suffixes=(".npz",),
)


@pytest.fixture
def npz(monkeypatch):
    monkeypatch.setitem(FORMATS, "npz", NPZ)


@pytest.fixture
def voxels():
    return np.random.default_rng(0).integers(-1000, 1000, (3, 40, 48), np.int16)


@pytest.fixture
def npz_domain(npz, voxels, tmp_path):
    _write_npz(tmp_path / "ct" / "images" / "a.npz", voxels, SPACING)
    _write_npz(tmp_path / "ct" / "masks" / "a.npz", (voxels > 500).astype(np.uint8), SPACING)
    return tmp_path / "ct"


@pytest.mark.parametrize("name", WRITERS)
def test_each_format_recognises_its_own(name, voxels, tmp_path):
    path = save_volume(name, tmp_path, "scan.1", voxels, SPACING)
    assert format_of(path) is FORMATS[name]
    assert volume_name(path) == "scan.1"
    assert list_folder(tmp_path) == ([path], [])
    volume = open_volume(path)
    assert volume.format == name and volume.spacing == pytest.approx(SPACING)
    assert np.array_equal(volume.voxels.compute(), voxels)


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("scan.nii", "scan.nii"),
        ("scan.nii.gz", "scan.nii.gz"),
        ("scan.ome.tif", "scan.tif"),
        ("scan.TIFF", "scan.tif"),
        ("scan.ome.zarr", "scan.zarr"),
        ("series.1", "series.1.nii.gz"),
    ],
)
def test_labels_have_the_format_of_their_volume(name, labels):
    path = Path("in") / name
    found = next((each for each in FORMATS.values() if each.suffix_of(path)), FORMATS["dicom"])
    volume = Volume(np.zeros((2, 3, 4)), None, path, found.name)
    assert label_path(volume, Path("out")) == Path("out") / labels


def test_a_new_format_is_opened_and_written(npz, voxels, tmp_path):
    _write_npz(tmp_path / "a.npz", voxels, SPACING)
    volume = open_volume(tmp_path / "a.npz")
    assert volume.shape == voxels.shape
    target = label_path(volume, tmp_path / "out")
    write_labels_like(volume, voxels > 0, target)
    again = open_volume(target)
    assert target.name == "a.npz" and again.spacing == SPACING
    assert np.array_equal(again.voxels.compute(), voxels > 0)


def test_a_new_format_is_a_domain(npz_domain, voxels):
    domain = Domain.from_folder(npz_domain)
    assert domain.names == ("a_z000", "a_z001", "a_z002") and domain.spacing == SPACING
    assert np.array_equal(np.stack([case.image for case in domain]), voxels)
    (summary,) = inspect_folder(npz_domain)
    assert (summary.name, summary.slices, summary.size) == ("a", 3, (40, 48))
    assert summary.counts["foreground"] == (voxels > 500).sum()


def test_a_new_format_is_segmented(npz_domain, msankd, model_file, tmp_path):
    out = tmp_path / "out"
    images = npz_domain / "images"
    command = msankd("segment", images, "--model", model_file, "--out", out, "--device", "cpu")
    assert command.code == 0, command.err
    assert [file.name for file in out.iterdir() if file.suffix != ".csv"] == ["a.npz"]
    labels = open_volume(out / "a.npz")
    assert labels.shape == (3, 40, 48) and labels.spacing == SPACING


def test_a_format_may_be_kept_out_of_domains(npz_domain, monkeypatch):
    closed = VolumeFormat("npz", (".npz",), NPZ.recognises, NPZ.read, in_domains=False)
    monkeypatch.setitem(FORMATS, "npz", closed)
    assert list_folder(npz_domain / "images")[0] == [npz_domain / "images" / "a.npz"]
    assert list_folder(npz_domain / "images", domain=True) == ([], [])
