"""The calibration dialog of the Segment widget with labelled layers."""

from pathlib import Path
from threading import Event

import numpy as np
import pytest
from qtpy.QtWidgets import QFileDialog

from napari_msankd.segment import calibration_dialog as tuning
from napari_msankd.segment.calibration_dialog import CalibrationDialog
from src_training.data.domain import Domain, write_domain
from src_training.data.phantom.camera import fundus_phantom
from src_training.evaluation.evaluate import evaluate
from src_training.inference.model_file import load_model, read_card
from src_training.inference.predictor import Predictor
from tests.gui.conftest import PATIENCE

pytestmark = pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")


@pytest.fixture
def eyes():
    return [fundus_phantom(seed, 96, "B") for seed in range(2)]


@pytest.fixture
def labelled(viewer, eyes):
    """Two open photographs and their vessel labels."""
    for number, eye in enumerate(eyes, 1):
        viewer.add_image(eye.image, rgb=True, name=f"eye {number}")
        viewer.add_labels(eye.mask.astype(np.uint8), name=f"eye {number} vessels")


@pytest.fixture
def dialog(widget, qtbot):
    """Press the button; returns the dialog once it has read the open layers."""

    def press():
        widget.calibrate.click()
        dialogs = widget.findChildren(CalibrationDialog)
        dialog = [dialog for dialog in dialogs if dialog.isVisible()][-1]
        qtbot.waitUntil(lambda: not dialog.images.looking, timeout=PATIENCE)
        return dialog

    yield press
    for each in widget.findChildren(CalibrationDialog):
        each.reject()


@pytest.fixture
def save_as(monkeypatch, tmp_path):
    file = tmp_path / "tuned.safetensors"

    def ask(_parent, _title, start, _kinds):
        assert Path(start) == tmp_path / "models" / "tiny-calibrated.safetensors"
        return str(file.with_suffix("")), ""

    monkeypatch.setattr(QFileDialog, "getSaveFileName", ask)
    return file


def test_a_model_is_calibrated_on_open_layers_and_chosen(
    labelled, eyes, widget, dialog, save_as, model, qtbot
):
    given = model.read_bytes()
    opened = dialog()
    with qtbot.waitSignal(opened.calibrated, timeout=PATIENCE):
        opened.calibrate.click()
        assert not opened.calibrate.isEnabled()
    assert widget.model.path == save_as and model.read_bytes() == given
    assert "tuned.safetensors is chosen" in widget.status.text()
    card = read_card(save_as)
    assert card.name == "tuned" and card.description == "Untrained. Tuned to 2 images of eye."
    before, after = (
        float(each.split()[0]) for each in opened.status.text().split("Dice ")[1].split(", ")
    )
    domain = Domain.from_arrays("eye", [e.image for e in eyes], [e.mask for e in eyes])
    for file, said in ((model, before), (save_as, after)):
        dice = evaluate(Predictor(load_model(file), "cpu"), domain).mean["dice"]
        assert dice == pytest.approx(said, abs=1e-3)
    assert after >= before and opened.calibrate.isEnabled() and not opened.bar.isVisible()


def test_a_model_is_calibrated_on_a_folder(eyes, viewer, dialog, save_as, tmp_path, qtbot):
    domain = Domain.from_arrays("lab", [e.image for e in eyes], [e.mask for e in eyes])
    write_domain(domain, tmp_path / "lab")
    opened = dialog()
    assert not opened.calibrate.isEnabled()
    opened.images.choose_folder(tmp_path / "lab")
    qtbot.waitUntil(opened.calibrate.isEnabled, timeout=PATIENCE)
    with qtbot.waitSignal(opened.calibrated, timeout=PATIENCE):
        opened.calibrate.click()
    assert "Tuned to 2 images of lab." in read_card(save_as).description


def test_results_of_a_model_are_no_reference_to_calibrate_on(eyes, viewer, dialog, segmented):
    viewer.add_image(eyes[0].image, rgb=True, name="eye")
    assert segmented() is not None
    opened = dialog()
    assert not opened.calibrate.isEnabled() and "Paint Labels" in opened.images.state.text


def test_an_impossible_calibration_is_named_and_writes_nothing(
    labelled, widget, dialog, save_as, qtbot
):
    opened = dialog()
    opened.images.camera.setValue(45)
    qtbot.waitUntil(opened.calibrate.isEnabled, timeout=PATIENCE)
    opened.calibrate.click()
    qtbot.waitUntil(lambda: "✕" in opened.status.text(), timeout=PATIENCE)
    assert "angle" in opened.status.text() and not save_as.exists()
    assert opened.calibrate.isEnabled()


def test_a_dialog_that_is_closed_writes_nothing(
    labelled, widget, dialog, save_as, monkeypatch, qtbot
):
    opened, before, steps = dialog(), widget.model.path, tuning._calibrate
    closed, ended = Event(), Event()

    def held(*arguments):
        try:
            for step in steps(*arguments):
                yield step
                closed.wait(PATIENCE / 1000)
        finally:
            ended.set()

    monkeypatch.setattr(tuning, "_calibrate", held)
    opened.calibrate.click()
    qtbot.waitUntil(lambda: "Loading" in opened.status.text(), timeout=PATIENCE)
    opened.reject()
    closed.set()
    qtbot.waitUntil(ended.is_set, timeout=PATIENCE)
    assert not save_as.exists() and widget.model.path == before
