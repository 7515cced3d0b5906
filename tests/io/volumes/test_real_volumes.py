"""Two real CT volumes, in Hounsfield units and millimetres."""

import os
from pathlib import Path

import nibabel
import numpy as np
import pytest

from src_training.io.volumes.registry import open_volume, write_labels_like

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
