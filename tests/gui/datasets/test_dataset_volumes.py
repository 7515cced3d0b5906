"""Choosing a folder of volumes."""

import nibabel
import numpy as np
import pytest
from napari.components import ViewerModel

from napari_msankd.datasets.selector import DatasetSelector
from tests.gui.conftest import PATIENCE


@pytest.fixture
def folder(tmp_path):
    labels = np.zeros((16, 12, 5), np.uint8)
    labels[4:9, 3:8, 1:4] = 1
    for name in ("first", "second"):
        for part, voxels in (("images", labels.astype(np.int16) * 100), ("masks", labels)):
            (tmp_path / part).mkdir(exist_ok=True)
            file = tmp_path / part / f"{name}.nii.gz"
            nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), file)
    return tmp_path


def test_volumes_can_be_learned_from_and_are_counted_as_such(folder, qtbot):
    choice = DatasetSelector(ViewerModel(), "required")
    qtbot.addWidget(choice)
    choice.camera.setValue(45)
    choice.choose_folder(folder)
    qtbot.waitUntil(lambda: not choice.looking, timeout=PATIENCE)
    assert choice.faults.text() == ""
    assert choice.value().path == folder
    # Volumes have no camera angle.
    assert not choice.camera.isVisibleTo(choice) and choice.value().angle is None
    assert "2 volumes, 10 slices of 16 × 12 px (w × h)" in choice.summary.text()
    assert "foreground 7.8 % (150 voxels)" in choice.summary.text()
    assert choice.strip.count() == 2
    text = choice.strip.item(0).toolTip()
    assert "first · 5 slices of 16 × 12 px (w × h)" in text and "(75 voxels)" in text
    choice.end()


def test_an_unfitting_mask_is_a_problem_and_one_volume_is_noted(folder, qtbot):
    choice = DatasetSelector(ViewerModel(), "required")
    qtbot.addWidget(choice)
    wrong = folder / "masks" / "second.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.ones((16, 12, 4), np.uint8), np.eye(4)), wrong)
    choice.choose_folder(folder)
    qtbot.waitUntil(lambda: not choice.looking, timeout=PATIENCE)
    sentence = "second.nii.gz: 4 slices of 16 × 12 px (w × h) against 5 slices"
    assert sentence in choice.faults.text().replace("\u200b", "")
    assert choice.value() is None
    assert "Only one volume" in choice.summary.text()
    choice.end()
