"""The combobox of models: choose, open, rename and delete models."""

import json
import sys
from shutil import copytree

import pytest
from pytestqt.qtbot import QtBot
from qtpy.QtCore import Qt
from qtpy.QtGui import QImage
from qtpy.QtWidgets import QComboBox

from napari_msankd.settings import library
from napari_msankd.widgets.layout import ElidingComboBox
from napari_msankd.widgets.model_combo import ModelCombo, display_name
from napari_msankd.widgets.model_dialog import ModelDialog, deletion_question
from src_training.errors import InputError
from src_training.inference.shipped import shipped_models


@pytest.fixture(autouse=True)
def empty_library(monkeypatch, tmp_path):
    monkeypatch.setenv("MSANKD_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("MSANKD_MODELS", str(tmp_path / "models"))


@pytest.fixture
def run(finished_run, tmp_path):
    copytree(finished_run.path, tmp_path / "runs" / "mine")
    return tmp_path / "runs" / "mine"


@pytest.fixture
def make_combo(qtbot):
    def make(**options):
        combo = ModelCombo(**options)
        qtbot.addWidget(combo)
        return combo

    return make


@pytest.fixture
def dialog(qtbot, run):
    made = ModelDialog(library())
    qtbot.addWidget(made)
    return made


def texts(combo):
    return [combo.itemText(row) for row in range(combo.count())]


def pick(combo, text):
    row = next(row for row, shown in enumerate(texts(combo)) if shown.startswith(text))
    combo.setCurrentIndex(row)
    combo.activated.emit(row)


def test_the_model_of_the_samples_is_chosen_at_first(make_combo):
    combo = make_combo()
    assert combo.path == next(iter(shipped_models().values()))
    assert combo.entry.name == "vessels"
    assert make_combo(none="no model").path is None


def test_models_of_runs_are_listed_with_date_and_dice(make_combo, run):
    combo = make_combo()
    line = next(text for text in texts(combo) if text.startswith("mine · distilled"))
    assert "Dice 0." in line and "202" in line and "★" not in line
    pick(combo, "mine · teacher")
    assert combo.path == run / "models" / "teacher.safetensors"
    assert display_name(combo.path) == "mine · teacher"


def test_the_better_student_has_a_star(make_combo, run):
    report = {
        role: {"scores": {"B": {"mean": {"dice": dice}, "interval": {"dice": [dice, dice]}}}}
        for role, dice in (("teacher", 0.8), ("baseline", 0.6), ("distilled", 0.3))
    }
    (run / "report" / "report.json").write_text(json.dumps(report))
    own = [text for text in texts(make_combo()) if text.startswith("mine")]
    assert own[0].startswith("mine · baseline ★")
    assert not any("★" in text for text in own[1:])


def test_headings_cannot_be_chosen(make_combo, run):
    combo = make_combo()
    for title in ("Shipped", "Trained by your runs"):
        item = combo.model().item(texts(combo).index(title))
        assert not item.flags() & Qt.ItemFlag.ItemIsEnabled


def test_a_change_is_told_once_and_only_if_it_is_one(make_combo, run):
    combo, received = make_combo(), []
    combo.changed.connect(lambda: received.append(combo.path))
    combo.open(combo.path)
    pick(combo, "vessels")
    assert received == []
    combo.open(run / "model.safetensors")
    assert received == [run / "model.safetensors"]
    combo.refresh()
    assert len(received) == 1


def test_an_opened_model_is_in_every_list_after_a_restart_too(make_combo, model):
    first, second = make_combo(), make_combo()
    first.open(model)
    assert first.path == model and second.path != model
    assert any(text.startswith("tiny") for text in texts(second))
    assert any(text.startswith("tiny") for text in texts(make_combo()))


def test_a_model_that_was_trained_meanwhile_is_in_the_list(make_combo, finished_run, tmp_path):
    combo = make_combo()
    copytree(finished_run.path, tmp_path / "runs" / "new")
    combo.refresh()
    assert any(text.startswith("new · distilled") for text in texts(combo))


def test_a_model_that_is_gone_is_chosen_no_more(make_combo, run):
    combo, received = make_combo(), []
    combo.open(run / "models" / "teacher.safetensors")
    combo.changed.connect(lambda: received.append(combo.path))
    (run / "models" / "teacher.safetensors").unlink()
    combo.refresh()
    assert combo.path == next(iter(shipped_models().values())) and received == [combo.path]


def test_without_any_model_the_list_says_so(make_combo, monkeypatch):
    monkeypatch.setattr("src_training.runs.library.shipped_models", dict)
    combo = make_combo()
    assert combo.path is None and combo.currentText() == "no model yet"


def test_a_rename_is_seen_in_every_list(make_combo, dialog, run):
    combo = make_combo()
    dialog.choose(run / "model.safetensors")
    dialog.rename_to("My retina")
    assert any(text.startswith("My retina · distilled") for text in texts(combo))
    assert dialog.entry.name == "My retina"
    dialog.rename_to("a/b")
    assert "cannot be a name" in dialog.status.text()


@pytest.mark.skipif(sys.platform != "linux", reason="looks into the trash of a Linux desktop")
def test_a_deleted_run_goes_to_the_trash_as_a_whole(dialog, run, tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    dialog.choose(run / "models" / "teacher.safetensors")
    assert "the whole run “mine”" in deletion_question(dialog.entry, dialog.library)
    dialog.remove()
    assert not run.exists()
    assert (tmp_path / "data" / "Trash" / "files" / "mine" / "model.safetensors").is_file()


def test_shipped_models_can_only_be_shown(dialog):
    dialog.choose(next(iter(shipped_models().values())))
    assert not dialog.delete.isEnabled() and not dialog.rename.isEnabled()
    assert dialog.reveal.isEnabled()
    with pytest.raises(InputError):
        deletion_question(dialog.entry, dialog.library)


def test_a_model_from_elsewhere_leaves_the_list_but_not_the_disk(dialog, model):
    library().remember(model)
    dialog.refresh()
    dialog.choose(model)
    assert dialog.delete.text() == "&Remove from list"
    assert deletion_question(dialog.entry, dialog.library) == ""
    dialog.remove()
    assert model.exists()
    assert all(entry.path != model for entry in dialog.entries)


def test_a_choice_too_long_to_show_ends_in_an_ellipsis(qtbot: QtBot) -> None:
    def picture(box: QComboBox, choice: str) -> QImage:
        qtbot.addWidget(box)
        box.addItem(choice)
        box.setFixedSize(160, 30)
        return box.grab().toImage()

    long = "vessels   Dice 0.806 (CHASE_DB1, validation)"
    assert picture(ElidingComboBox(), "vessels") == picture(QComboBox(), "vessels")
    assert picture(ElidingComboBox(), long) == picture(ElidingComboBox(), f"{long} of today")
    assert picture(ElidingComboBox(), long) != picture(QComboBox(), long)
