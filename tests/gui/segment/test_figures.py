"""Figures of a result: which labels they belong to, and when they are stale."""

from threading import Event

import numpy as np
import pytest
from qtpy.QtCore import QThreadPool

from napari_msankd.segment import figures
from napari_msankd.segment import inference as segmenting
from napari_msankd.segment.metrics import Scores
from src_training.inference.model_file import load_model
from src_training.inference.predictor import Predictor, labels_from
from tests.gui.conftest import PATIENCE

MM = {"scale": (3, 0.5, 0.5), "units": ("mm", "mm", "mm")}


@pytest.fixture
def volume():
    return np.random.default_rng(5).random((6, 32, 40), np.float32)


@pytest.fixture
def held(monkeypatch, qtbot):
    """Block a worker of figures; `let_go` releases it and waits for its end."""
    going = Event()

    def hold(name, result):
        def steps(_):
            going.wait(PATIENCE / 1000)
            yield result

        monkeypatch.setattr(figures, name, steps)

    def let_go():
        going.set()
        QThreadPool.globalInstance().waitForDone()
        qtbot.wait(200)

    hold.let_go = let_go
    yield hold
    going.set()


def test_millilitres_that_are_being_counted_go_with_their_layer(
    volume, viewer, widget, segmented, held, qtbot
):
    held("measure", "vessel 49.7 ml")
    viewer.add_image(volume, **MM)
    labels = segmented()
    qtbot.waitUntil(lambda: "measure" in widget.workers, timeout=PATIENCE)
    viewer.layers.remove(labels)
    held.let_go()
    assert widget.result is None and widget.volumes.text() == ""


def test_scores_that_are_being_counted_go_with_their_reference(
    image, viewer, widget, segmented, held, qtbot
):
    held("compare", Scores(0.5, 0.5, 1, "px", 6, 6))
    viewer.add_image(image, rgb=True)
    labels = segmented()
    widget.reference.layer = viewer.add_labels(np.asarray(labels.data).copy())
    qtbot.waitUntil(lambda: "score" in widget.workers, timeout=PATIENCE)
    widget.reference.layer = None
    qtbot.wait(300)
    held.let_go()
    assert widget.scores.text() == ""


def test_old_figures_are_marked_until_there_are_new_ones(
    volume, viewer, widget, segmented, held, qtbot
):
    viewer.add_image(volume, **MM)
    labels = segmented()
    widget.reference.layer = viewer.add_labels(np.asarray(labels.data).copy(), **MM)
    figures = (widget.scores, widget.volumes)
    qtbot.waitUntil(lambda: all(each.text() for each in figures), timeout=PATIENCE)
    before = [each.text() for each in figures]
    assert all(each.isEnabled() for each in figures)
    held("compare", Scores(0.5, 0.5, 1, "px", 6, 6))
    held("measure", "vessel 9 ml")
    widget.threshold.setValue(0.7)
    assert [each.text() for each in figures] == [f"{text} (updating…)" for text in before]
    assert not any(each.isEnabled() for each in figures)
    held.let_go()
    qtbot.waitUntil(lambda: all(each.isEnabled() for each in figures), timeout=PATIENCE)
    assert [each.text() for each in figures] == [
        "Dice 0.500 · sensitivity 0.500\nHD95 1.0 px · all 6 slices",
        "vessel 9 ml",
    ]


def test_a_reference_with_noise_is_divided_and_said(image, viewer, widget, segmented, qtbot):
    viewer.add_image(image, rgb=True)
    labels = np.asarray(segmented().data).astype(np.uint8) * 255
    labels[:10, :20], labels[:10, 20], labels[0, 40], labels[1, 30] = 255, 90, 3, 7
    widget.reference.layer = viewer.add_labels(labels)
    qtbot.waitUntil(lambda: "above 127 is foreground" in widget.scores.text(), timeout=PATIENCE)


def test_a_mask_open_as_an_image_becomes_the_reference(image, viewer, widget, segmented, qtbot):
    mask = np.zeros(image.shape[:2], np.uint8)
    mask[5:20, 5:20] = 255
    assert widget.as_labels.isHidden()
    viewer.add_image(image, rgb=True, name="eye")
    viewer.add_image(mask, name="expert")
    viewer.add_image(mask[:-1], name="of another size")
    assert widget.image.layer.name == "eye" and not widget.as_labels.isHidden()
    assert widget.as_labels.text() == "Use 'expert' as labels"
    segmented()
    widget.as_labels.click()
    assert widget.reference.layer.name == "expert" and widget.as_labels.isHidden()
    assert widget.reference.layer.data.sum() == 15 * 15
    qtbot.waitUntil(lambda: "Dice" in widget.scores.text(), timeout=PATIENCE)


def test_a_reference_without_a_place_is_placed(volume, viewer, widget, segmented, qtbot):
    place = {"scale": (3, 0.5, 0.5), "units": ("mm",) * 3, "translate": (9, 2, 4)}
    viewer.add_image(volume, **place)
    labels = segmented()
    assert widget.place.isHidden()
    bare = viewer.add_labels(np.asarray(labels.data).copy(), name="mask")
    widget.reference.layer = bare
    qtbot.waitUntil(lambda: "another grid" in widget.scores.text(), timeout=PATIENCE)
    assert not widget.place.isHidden()
    widget.place.click()
    qtbot.waitUntil(lambda: "Dice 1.000" in widget.scores.text(), timeout=PATIENCE)
    assert np.allclose(bare.translate, place["translate"]) and bare.units == labels.units
    assert widget.place.isHidden()


def test_numbered_objects_in_a_reference_are_said(image, viewer, widget, segmented, qtbot):
    viewer.add_image(image, rgb=True)
    segmented()
    objects = np.zeros(image.shape[:2], np.uint8)
    for number in range(1, 5):
        objects[8 * number : 8 * number + 4, 8 * number : 8 * number + 4] = number
    widget.reference.layer = viewer.add_labels(objects, name="cells")
    sentence = "Reference 'cells' holds 4 labels: each of them counts as foreground."
    qtbot.waitUntil(lambda: sentence in widget.scores.text(), timeout=PATIENCE)


def test_painting_on_the_reference_outdates_the_scores(image, viewer, widget, segmented, qtbot):
    viewer.add_image(image, rgb=True)
    labels = segmented()
    reference = viewer.add_labels(np.asarray(labels.data).copy())
    widget.reference.layer = reference
    qtbot.waitUntil(lambda: "Dice 1.000" in widget.scores.text(), timeout=PATIENCE)
    reference.data_setitem((np.arange(20), np.arange(20)), 1 - reference.data[:20, :20].diagonal())
    assert "updating" in widget.scores.text()
    qtbot.waitUntil(lambda: widget.scores.isEnabled(), timeout=PATIENCE)
    assert "Dice 1.000" not in widget.scores.text()


@pytest.mark.parametrize("of", ["reference", "result"])
def test_undo_and_redo_update_the_scores(of, image, viewer, widget, segmented, qtbot):
    viewer.add_image(image, rgb=True)
    labels = segmented()
    reference = viewer.add_labels(np.asarray(labels.data).copy())
    widget.reference.layer = reference
    qtbot.waitUntil(lambda: "Dice 1.000" in widget.scores.text(), timeout=PATIENCE)
    edited = reference if of == "reference" else labels
    edited.brush_size = 15
    edited.paint((20, 20), 1 - int(edited.data[20, 20]))
    for change, same in ((None, False), (edited.undo, True), (edited.redo, False)):
        if change is not None:
            change()
        assert "updating" in widget.scores.text()
        qtbot.waitUntil(lambda: widget.scores.isEnabled(), timeout=PATIENCE)
        assert ("Dice 1.000" in widget.scores.text()) is same


def test_figures_that_went_leave_no_empty_strip(volume, viewer, widget, segmented, qtbot):
    viewer.add_image(volume, **MM)
    labels = segmented()
    qtbot.waitUntil(lambda: "ml" in widget.volumes.text(), timeout=PATIENCE)
    assert not widget.volumes.isHidden()
    viewer.layers.remove(labels)
    assert widget.volumes.isHidden()


def test_a_failed_run_leaves_the_former_result_and_scores(image, viewer, widget, segmented, qtbot):
    viewer.add_image(image, rgb=True)
    labels = segmented()
    before = labels.data.copy()
    widget.reference.layer = viewer.add_labels(before)
    qtbot.waitUntil(lambda: "Dice 1.000" in widget.scores.text(), timeout=PATIENCE)
    hole = np.full((3, 32, 32), 0.5, np.float32)
    hole[:, 3, 4] = np.nan
    viewer.add_image(hole, name="hole", contrast_limits=(0, 1))
    viewer.dims.set_point(0, 1)
    assert segmented() == labels
    assert "layer 'hole', slice [1], cannot be segmented: " in widget.status.text()
    assert "Dice 1.000" in widget.scores.text()
    widget.threshold.setValue(0.7)
    qtbot.waitUntil(lambda: not np.array_equal(labels.data, before), timeout=PATIENCE)
    qtbot.waitUntil(lambda: "Dice 1.000" not in widget.scores.text(), timeout=PATIENCE)
    viewer.layers.remove(labels)
    assert "'hole'" in widget.status.text()


def test_a_threshold_set_before_the_first_tile_is_used(
    image, viewer, widget, model, monkeypatch, qtbot
):
    loaded, going, tiles = Event(), Event(), segmenting._tiles

    def late(*what):
        loaded.set()
        going.wait(PATIENCE / 1000)
        yield from tiles(*what)

    monkeypatch.setattr(segmenting, "_tiles", late)
    viewer.add_image(image, rgb=True)
    widget.run.click()
    qtbot.waitUntil(loaded.is_set, timeout=PATIENCE)
    qtbot.wait(200)
    widget.threshold.setValue(0.7)
    going.set()
    qtbot.waitUntil(lambda: not widget.running, timeout=PATIENCE)
    wanted = labels_from(Predictor(load_model(model), "cpu").predict(image), 0.7)
    qtbot.waitUntil(lambda: np.array_equal(widget.result.data, wanted), timeout=PATIENCE)


def test_expected_dice_stands_with_the_result(image, viewer, widget, segmented, qtbot):
    viewer.add_image(image, rgb=True)
    labels = segmented()
    qtbot.waitUntil(lambda: "Expected Dice 0." in widget.expected.text(), timeout=PATIENCE)
    assert "tells no interval" in widget.expected.text()
    before = labels.metadata["msankd"]["expected_dice"]
    assert before["low"] is None and 0 <= before["value"] <= 1
    assert labels.features["expected Dice"][1] == before["value"]
    widget.state.manual = True
    widget.threshold.setValue(0.9)
    qtbot.waitUntil(
        lambda: labels.metadata["msankd"]["expected_dice"]["value"] != before["value"],
        timeout=PATIENCE,
    )
    viewer.layers.remove(labels)
    assert widget.expected.text() == ""
