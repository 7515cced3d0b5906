"""Two real CT volumes, in Hounsfield units and millimetres."""

import os
from pathlib import Path

import nibabel
import numpy as np
import pytest

from src_training.data.domain import Domain
from src_training.io.volumes.registry import open_volume, write_labels_like

from .files import save_volume

DATA = os.environ.get("MSANKD_DATA")


@pytest.mark.real
@pytest.mark.skipif(not DATA, reason="MSANKD_DATA names no folder of real images")
@pytest.mark.parametrize(
    ("folder", "name", "shape", "spacing"),
    [
        ("chaos_ct_volume", "chaos_ct03", (78, 512, 512), (2.0, 0.7265625, 0.7265625)),
        ("ircad_ct_volume", "ircad01", (129, 512, 512), (1.6, 0.57, 0.57)),
    ],
)
def test_a_real_ct_comes_whole_and_its_labels_go_back(folder, name, shape, spacing, tmp_path):
    of = Path(DATA or "") / "liver" / folder
    scan, truth = (of / kind / f"{name}.nii.gz" for kind in ("images", "masks"))
    volume, labels = open_volume(scan), open_volume(truth)
    assert volume.shape == labels.shape == shape
    assert volume.spacing == pytest.approx(spacing)
    liver = volume.voxels[labels.voxels == 1].compute()
    assert 20 < np.median(liver) < 200  # Hounsfield units of liver, contrast or none
    write_labels_like(volume, labels.voxels, tmp_path / "labels.nii.gz")
    written, source = nibabel.load(tmp_path / "labels.nii.gz"), nibabel.load(truth)
    assert np.array_equal(np.asarray(written.dataobj), np.asarray(source.dataobj))
    assert np.array_equal(written.affine, nibabel.load(scan).affine)


@pytest.mark.real
@pytest.mark.skipif(not DATA, reason="MSANKD_DATA names no folder of real images")
@pytest.mark.parametrize("name", ["tiff", "dicom", "omezarr"])
def test_a_real_ct_is_the_same_domain_in_every_format(name, tmp_path):
    real = Path(DATA or "") / "liver" / "chaos_ct_volume"
    slices = slice(30, 36)
    scan, truth = (open_volume(real / part / "chaos_ct03.nii.gz") for part in ("images", "masks"))
    hu = np.maximum(scan.voxels[slices].compute(), -1024).astype(np.int16)
    labels = truth.voxels[slices].compute().astype(np.uint8)
    for part, voxels in (("images", hu), ("masks", labels)):
        save_volume(name, tmp_path / part, "ct", voxels, scan.spacing)
    domain = Domain.from_folder(tmp_path)
    assert len(domain) == 6 and domain.spacing == pytest.approx(scan.spacing)
    assert domain.classes == ("background", "foreground")
    for index, case in enumerate(domain):
        assert np.array_equal(case.image, hu[index]) and case.image.dtype == np.int16
        assert np.array_equal(case.mask, labels[index] != 0)
