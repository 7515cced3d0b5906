"""Choosing several datasets."""

import numpy as np
import pytest
from qtpy.QtWidgets import QAbstractButton, QApplication

from napari_msankd.datasets.dataset_list import DatasetList
from napari_msankd.datasets.selection import FolderDataset, LayerDataset
from tests.gui.conftest import PATIENCE


@pytest.fixture
def targets(viewer, qtbot):
    made = DatasetList(viewer, "optional", "For testing only.")
    qtbot.addWidget(made)
    made.show()
    yield made
    made.end()


@pytest.fixture
def await_summary(targets, qtbot):
    def wait():
        QApplication.processEvents()
        qtbot.waitUntil(lambda: not targets.looking, timeout=PATIENCE)
        return targets

    return wait


def test_none_are_needed_and_it_says_what_they_are_for(targets):
    assert targets.value() == []
    assert targets.words.text() == "For testing only."
    assert not targets.words.isHidden()


def test_folders_and_layers_beside_each_other(targets, viewer, await_summary, make_domain, qtbot):
    viewer.add_image(np.zeros((20, 20), np.uint8), name="here")
    folder = make_domain("there", masks=False)
    with qtbot.waitSignal(targets.changed):
        targets.add(folder)
    targets.add_layers.click()
    assert targets.value() is None
    there, here = await_summary().value()
    assert there == FolderDataset(folder)
    assert isinstance(here, LayerDataset)
    assert (here.name, here.role) == ("here", "targets")
    assert targets.words.isHidden()


def test_a_target_can_be_taken_away(targets, await_summary, make_domain):
    first, second = make_domain("one"), make_domain("two")
    for folder in (first, second):
        targets.add(folder)
    targets.remove(targets.choices[0])
    assert [value.path for value in await_summary().value()] == [second]
    targets.remove(targets.choices[0])
    assert targets.value() == []
    assert not targets.words.isHidden()


def test_targets_of_one_name_are_distinguished(
    targets, viewer, await_summary, make_domain, tmp_path
):
    folder = make_domain("scans")
    other = tmp_path / "elsewhere"
    other.mkdir()
    folder.rename(other / "scans")
    targets.add(other / "scans")
    targets.add(make_domain("scans"))
    names = [value.name for value in await_summary().value()]
    assert names == ["elsewhere scans", f"{tmp_path.name} scans"]
    assert targets.choices[0].where.currentText() == "elsewhere/scans"
    for _ in range(2):
        viewer.add_image(np.zeros((20, 20), np.uint8), name="here")
    targets.add()
    targets.add()
    assert [value.name for value in await_summary().value()][2:] == ["here", "here 2"]


def test_an_unusable_target_blocks_all_and_names_the_file(targets, await_summary, make_domain):
    folder = make_domain("broken")
    next((folder / "images").iterdir()).write_bytes(b"no picture")
    targets.add(make_domain("whole"))
    targets.add(folder)
    assert await_summary().value() is None
    assert len(targets.problems) == 1
    assert str(folder) in targets.problems[0]


def test_every_control_explains_itself(targets, await_summary, make_domain):
    targets.add(make_domain())
    await_summary()
    for control in targets.findChildren(QAbstractButton):
        assert control.toolTip(), control.text()


def test_a_target_that_was_taken_away_listens_to_nothing(targets, await_summary, viewer, qtbot):
    image = viewer.add_image(np.zeros((20, 20), np.uint8), name="here")
    labels = viewer.add_labels(np.zeros((20, 20), int), name="paint")
    gone = targets.add()
    await_summary()
    with qtbot.waitSignal(gone.destroyed):
        targets.remove(gone)
    labels.data_setitem((np.array([1]), np.array([1])), 1)
    image.data = np.ones((20, 20), np.uint8)
    viewer.theme = "light"
    viewer.add_image(np.zeros((20, 20), np.uint8))
    QApplication.processEvents()
    assert targets.value() == []


def test_several_sources_must_have_masks(viewer, qtbot, make_domain):
    sources = DatasetList(viewer, "required")
    qtbot.addWidget(sources)
    sources.add(make_domain("one"))
    sources.add(make_domain("two"))
    qtbot.waitUntil(lambda: not sources.looking, timeout=PATIENCE)
    assert [value.name for value in sources.value()] == ["one", "two"]
    assert sources.classes == ("background", "foreground")
    sources.add(make_domain("bare", masks=False))
    qtbot.waitUntil(lambda: not sources.looking, timeout=PATIENCE)
    assert sources.value() is None
    assert "3 images have no mask (000, 001, 002)" in sources.problems[0]
    sources.end()


def test_layers_without_masks_have_a_folder_of_their_own(viewer, qtbot, tmp_path):
    viewer.add_image(np.zeros((20, 20), np.uint8), name="here")
    lists = [DatasetList(viewer, masks) for masks in ("optional", "unused")]
    folders = []
    for each in lists:
        qtbot.addWidget(each)
        each.add()
        qtbot.waitUntil(lambda each=each: not each.looking, timeout=PATIENCE)
        [value] = each.value()
        folders.append(value.recipe(tmp_path).folder)
        each.end()
    assert folders == [str(tmp_path / role / "here") for role in ("targets", "unlabelled")]
