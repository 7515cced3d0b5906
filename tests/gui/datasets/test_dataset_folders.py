"""Choosing a folder as a dataset."""

from shutil import copy
from threading import Event

import numpy as np
import pytest
from qtpy.QtCore import QMimeData, QPointF, Qt, QUrl
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import QApplication, QDialog, QPlainTextEdit

from napari_msankd.datasets import state
from napari_msankd.datasets.selection import FolderDataset, LayerDataset
from napari_msankd.datasets.summary import inspect
from src_training.io.images import write_labels
from tests.gui.conftest import PATIENCE


def test_a_folder_is_found_and_layers_can_be_taken_again(
    add, make_choice, await_summary, make_domain
):
    add("eye 1")
    add("eye 2")
    folder = make_domain("sc äns with spaces")
    choice = await_summary(make_choice())
    choice.choose_folder(folder)
    assert await_summary(choice).value() == FolderDataset(folder)
    assert choice.rows.isHidden()
    assert "3 images of 48 × 48 px (w × h)" in choice.summary.text()
    assert choice.where.currentText() == f"{folder.parent.name}/sc äns with spaces"
    choice.choose_folder(None)
    assert isinstance(await_summary(choice).value(), LayerDataset)
    assert not choice.rows.isHidden()


def test_a_folder_that_was_repaired_is_read_again(make_choice, await_summary, make_domain):
    folder = make_domain()
    mask = next((folder / "masks").iterdir())
    right = mask.read_bytes()
    write_labels(mask, np.zeros((7, 5), np.uint8))
    choice = make_choice()
    choice.choose_folder(folder)
    assert "5 × 7" in " ".join(await_summary(choice).problems)
    mask.write_bytes(right)
    choice.choose_folder(folder)
    assert not await_summary(choice).problems and choice.value() == FolderDataset(folder)
    mask.unlink()
    choice.where.activated.emit(choice.where.currentIndex())
    assert "has no mask" in " ".join(await_summary(choice).problems)


def drop(choice, path):
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path))])
    point = choice.rect().center()
    how = Qt.DropAction.CopyAction, data, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    entering = QDragEnterEvent(point, *how)
    QApplication.sendEvent(choice, entering)
    assert entering.isAccepted()
    assert "dashed" in choice.styleSheet()
    QApplication.sendEvent(choice, QDropEvent(QPointF(point), *how))
    assert choice.styleSheet() == ""


def test_a_folder_can_be_dropped(make_choice, await_summary, make_domain):
    folder = make_domain()
    choice = make_choice()
    drop(choice, folder)
    assert await_summary(choice).value() == FolderDataset(folder)


def test_a_file_that_is_dropped_is_refused_by_name(make_choice, await_summary, tmp_path):
    file = tmp_path / "eye.png"
    file.touch()
    choice = make_choice()
    drop(choice, file)
    await_summary(choice)
    assert "eye.png is a file; expected a folder" in choice.problems[0]
    assert choice.value() is None


def test_problems_are_named_and_collapsed_beyond_three(
    make_choice, await_summary, make_domain, qtbot
):
    folder = make_domain(images=7)
    broken = sorted((folder / "images").iterdir())[:4]
    for file in broken:
        file.write_bytes(b"no picture")
    choice = make_choice()
    choice.choose_folder(folder)
    await_summary(choice)
    assert len(choice.problems) == 4
    assert len(choice.faults.text().splitlines()) == 3
    assert choice.more.text() == "All 4 problems…"
    assert choice.value() is None
    choice.more.click()
    dialog = choice.findChild(QDialog)
    text = dialog.findChild(QPlainTextEdit).toPlainText()
    assert all(file.name in text for file in broken)
    dialog.close()


def test_faulty_files_are_left_out_by_one_click(make_choice, await_summary, make_domain, qtbot):
    folder = make_domain(images=5)
    for file in sorted((folder / "images").iterdir())[:2]:
        file.write_bytes(b"no picture")
    choice = make_choice()
    choice.choose_folder(folder)
    assert await_summary(choice).remedies.leave_out.text() == "Leave these 2 out"
    assert choice.remedies.include.isHidden()
    qtbot.mouseClick(choice.remedies.leave_out, Qt.MouseButton.LeftButton)
    await_summary(choice)
    assert choice.value() == FolderDataset(folder, exclude=("000", "001"))
    assert choice.summary.text().startswith("3 images")
    assert "2 left out: 000, 001." in choice.summary.text()
    assert choice.remedies.leave_out.isHidden() and choice.faults.text() == ""
    choice.remedies.include.click()
    assert len(await_summary(choice).problems) == 2


def test_images_without_masks_join_by_one_click(make_choice, await_summary, make_domain):
    folder = make_domain(images=5)
    for file in sorted((folder / "masks").iterdir())[:2]:
        file.unlink()
    choice = make_choice()
    choice.choose_folder(folder)
    assert "2 images have no mask (000, 001)" in await_summary(choice).faults.text()
    assert choice.remedies.use_all.text() == "Use the 2 images without masks too"
    choice.remedies.use_all.click()
    assert await_summary(choice).value().unlabelled_recipe(folder).masks == "absent"
    assert choice.faults.text() == "" and choice.remedies.use_all.isHidden()


def test_a_mask_without_an_image_is_noted_and_not_a_problem(
    make_choice, await_summary, make_domain
):
    folder = make_domain()
    first = next((folder / "masks").iterdir())
    first.with_name("stray.png").write_bytes(first.read_bytes())
    choice = make_choice()
    choice.choose_folder(folder)
    await_summary(choice)
    assert "stray.png has no image" in choice.faults.text()
    assert choice.value() == FolderDataset(folder)


def test_a_folder_that_is_gone_is_named(make_choice, await_summary, tmp_path):
    choice = make_choice()
    choice.choose_folder(tmp_path / "gone")
    await_summary(choice)
    assert "gone does not exist" in choice.problems[0]


def test_one_image_is_enough_but_noted_as_few(make_choice, await_summary, make_domain):
    choice = make_choice()
    choice.choose_folder(make_domain(images=1))
    await_summary(choice)
    assert "Only one image" in choice.summary.text()
    assert choice.value() is not None


def test_values_that_become_one_class_are_noted(make_choice, await_summary, make_domain):
    folder = make_domain()
    first = min((folder / "masks").iterdir())
    write_labels(first, (np.indices((48, 48))[0] % 7 * 40).astype(np.uint8))
    choice = make_choice()
    choice.choose_folder(folder)
    assert "0 is background, all others are foreground" in await_summary(choice).summary.text()
    assert choice.value() is not None


def test_a_target_with_masks_says_what_they_are_for(make_choice, await_summary, make_domain):
    choice = make_choice("optional")
    folder = make_domain(images=1)
    choice.choose_folder(folder)
    assert "Masks are used for scores only." in await_summary(choice).summary.text()
    assert choice.value() == FolderDataset(folder)


def test_long_names_and_paths_do_not_widen_the_dock(add, make_choice, await_summary, tmp_path):
    add("a photograph " * 15)
    choice = await_summary(make_choice())
    choice.choose_folder(tmp_path / ("long" * 40))
    await_summary(choice)
    assert choice.minimumSizeHint().width() <= 320


def test_a_large_folder_is_counted_while_it_is_read(
    make_choice, await_summary, make_domain, qtbot, monkeypatch
):
    go_on = Event()

    def slowly(dataset, masks):
        for number, item in enumerate(inspect(dataset, masks)):
            assert number < 10 or go_on.wait(PATIENCE / 1000)
            yield item

    monkeypatch.setattr(state, "inspect", slowly)
    choice = await_summary(make_choice())
    choice.choose_folder(make_domain(images=40))
    qtbot.waitUntil(lambda: choice.summary.text() == "Reading… 9 of 40", timeout=PATIENCE)
    assert choice.value() is None
    go_on.set()
    await_summary(choice)
    assert choice.strip.count() == 40 and choice.value() is not None


def test_ending_while_reading_says_nothing_more(make_choice, make_domain, qtbot):
    choice = make_choice()
    choice.choose_folder(make_domain(images=20))
    qtbot.waitUntil(lambda: choice.summary.text().startswith("Reading"), timeout=PATIENCE)
    choice.end()
    assert not choice.looking
    assert choice.value() is None


@pytest.fixture
def two_channels(make_domain):
    """Cases with two channels each, named as in nnU-Net."""
    folder = make_domain("lab", images=2)
    for image in sorted((folder / "images").iterdir()):
        copy(image, image.with_name(f"{image.stem}_0001.png"))
        image.rename(image.with_name(f"{image.stem}_0000.png"))
    (folder / "images").rename(folder / "imagesTr")
    (folder / "masks").rename(folder / "labelsTr")
    return folder


def test_of_several_channels_one_is_chosen(make_choice, await_summary, two_channels):
    choice = make_choice()
    choice.choose_folder(two_channels)
    channel = await_summary(choice).remedies.channel
    assert choice.value() is None and "0000" in choice.problems[0]
    assert [channel.itemData(i) for i in range(channel.count())] == ["0000", "0001"]
    assert channel.currentIndex() == -1 and not channel.isHidden()
    channel.setCurrentIndex(1)
    channel.activated.emit(1)
    assert await_summary(choice).value() == FolderDataset(two_channels, channel="0001")
    assert channel.currentData() == "0001" and not channel.isHidden()
    choice.choose_folder(None)
    await_summary(choice)
    assert channel.isHidden()
