"""Expected Dice in the Segment widget."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from napari.layers._layer_actions import _duplicate_layer
from qtpy.QtCore import QPointF, Qt

from napari_msankd.segment.slice_plot import SlicePlot
from napari_msankd.segment.state import SliceCurve
from src_training.inference.expected_dice import expected_dice, label_sums
from src_training.inference.model_file import load_model
from src_training.inference.predictor import Predictor
from tests.gui.conftest import PATIENCE, make_model

CLASSES = ("background", "liver", "tumour")


@pytest.fixture
def assessed(widget, segmented, qtbot):
    """Segment, and wait for the expected Dice; returns the labels."""

    def press():
        labels = segmented()
        qtbot.waitUntil(lambda: "Expected Dice" in widget.expected.text(), timeout=PATIENCE)
        return labels

    return press


def test_several_classes_have_an_expected_dice_each(
    viewer, widget, assessed, image, tmp_path, qtbot
):
    file = make_model(tmp_path / "organs.safetensors", CLASSES)
    widget.model.open(file)
    viewer.add_image(image, rgb=True)
    labels = assessed()
    predictor = Predictor(load_model(file), "cpu")
    maps = predictor.predict(image)
    wanted = expected_dice(label_sums(maps, maps.argmax(0)), None).value
    record = labels.metadata["msankd"]
    assert record["expected_dice"]["value"] == pytest.approx(wanted, abs=1e-6)
    assert [*record["expected_dice_of_classes"]] == ["liver", "tumour"]
    assert list(labels.features["class"]) == list(CLASSES)
    shown = labels.features["expected Dice"]
    assert np.isnan(shown[0]) and np.mean(shown[1:]) == pytest.approx(wanted, abs=1e-6)
    assert "liver 0." in widget.expected.text() and "tumour 0." in widget.expected.text()
    json.dumps(record)


def test_a_duplicate_keeps_its_figures(viewer, widget, assessed, image, qtbot):
    viewer.add_image(image, rgb=True)
    labels = assessed()
    viewer.layers.selection = {labels}
    _duplicate_layer(viewer.layers)
    copy = viewer.layers[f"{labels.name} copy"]
    before = copy.metadata["msankd"]["expected_dice"]["value"]
    assert copy.features["expected Dice"][1] == before
    widget.threshold.setValue(0.9)
    qtbot.waitUntil(lambda: labels.features["expected Dice"][1] != before, timeout=PATIENCE)
    assert copy.metadata["msankd"]["expected_dice"]["value"] == before
    assert copy.metadata["msankd"]["threshold"] != 0.9


def test_a_click_on_the_plot_chooses_the_slice(viewer, qtbot):
    plot = SlicePlot(viewer)
    qtbot.addWidget(plot)
    numbers, unknown = tuple(range(4, 16)), (math.nan,) * 12
    indices = tuple((at,) for at in numbers)
    plot.draw(SliceCurve(indices, numbers, (0.5,) * 12, unknown, unknown, unknown), (4,))
    qtbot.waitUntil(lambda: plot.canvas is not None, timeout=PATIENCE)
    plot.resize(300, 160)
    with qtbot.waitExposed(plot):
        plot.show()
    box = plot.canvas.getPlotItem().getViewBox()
    for wanted in (13, 6):
        at = plot.canvas.mapFromScene(box.mapViewToScene(QPointF(wanted, 0.3)))
        with qtbot.waitSignal(plot.chosen, timeout=PATIENCE) as chosen:
            qtbot.mouseClick(plot.canvas.viewport(), Qt.MouseButton.LeftButton, pos=at)
        assert chosen.args == [(wanted,)]


@pytest.mark.parametrize(("first", "count"), [(10, 3), (0, 4), (4, 78), (100, 400)])
def test_the_plot_names_whole_slices(first, count, viewer, qtbot):
    plot = SlicePlot(viewer)
    qtbot.addWidget(plot)
    numbers, values = tuple(range(first, first + count)), (0.5,) * count
    plot.draw(SliceCurve(tuple((at,) for at in numbers), numbers, *[values] * 4), (first,))
    qtbot.waitUntil(lambda: plot.canvas is not None, timeout=PATIENCE)
    axis = plot.canvas.getPlotItem().getAxis("bottom")
    ticks = [at for _, level in axis.tickValues(first, first + count - 1, 300) for at in level]
    assert 2 <= len(ticks) <= 8 and all(at == int(at) for at in ticks)


def test_the_slice_that_is_chosen_comes_in_view(stack, viewer, widget, segmented, qtbot):
    viewer.add_image(np.concatenate([stack] * 3), scale=(2, 1, 1), translate=(5, 0, 0))
    segmented()
    qtbot.waitUntil(lambda: not widget.curve.isHidden(), timeout=PATIENCE)
    qtbot.waitUntil(lambda: widget.curve.canvas is not None, timeout=PATIENCE)
    for wanted in (9, 2):
        widget.curve.chosen.emit((wanted,))
        assert viewer.dims.point[0] == 5 + 2 * wanted
        assert widget.state.shown_slice == (wanted,)


def test_real_dice_stands_beside_that_of_each_slice(stack, viewer, widget, assessed, qtbot):
    viewer.add_image(stack)
    labels = assessed()
    assert np.isnan(widget.state.curve.dice).all()
    truth = np.asarray(labels.data).copy()
    truth[2] = 1 - truth[2]
    widget.reference.layer = viewer.add_labels(truth, name="expert")
    qtbot.waitUntil(lambda: "Dice 0." in widget.scores.text(), timeout=PATIENCE)
    assert widget.state.curve.dice == (1, 1, 0, 1)
    record = labels.metadata["msankd"]["reference"]
    assert record["name"] == "expert" and record["dice_of_slices"] == [1, 1, 0, 1]
    widget.reference.layer = None
    qtbot.waitUntil(lambda: labels.metadata["msankd"]["reference"] is None, timeout=PATIENCE)
    assert np.isnan(widget.state.curve.dice).all()


def test_uncertainty_goes_with_its_result(stack, viewer, widget, segmented):
    viewer.add_image(stack)
    labels = segmented()
    widget.unsure.click()
    assert len(viewer.layers) == 3
    viewer.layers.remove(labels)
    assert len(viewer.layers) == 1
    assert not widget.unsure.isChecked() and not widget.unsure.isEnabled()


def test_where_it_is_unsure_is_a_layer_in_place(stack, viewer, widget, segmented, model):
    place = {"scale": (3, 0.5, 0.5), "translate": (5, 0, 2), "units": ("mm",) * 3}
    image = viewer.add_image(stack, **place)
    assert not widget.unsure.isEnabled()
    labels = segmented()
    widget.unsure.click()
    layer = viewer.layers[f"{labels.name} uncertainty"]
    maps = np.stack([Predictor(load_model(model), "cpu").predict(plane) for plane in stack])
    assert np.abs(np.asarray(layer.data) - maps.min(1)).max() < 0.006
    assert np.allclose(layer.scale, place["scale"]) and np.allclose(layer.translate, (5, 0, 2))
    assert layer.metadata["msankd"]["result_id"] == str(labels.unique_id)
    assert widget.image.layer == image
    viewer.layers.selection = {layer}
    _duplicate_layer(viewer.layers)
    assert viewer.layers[f"{layer.name} copy"].data.shape == stack.shape
    widget.unsure.click()
    assert layer not in viewer.layers and labels in viewer.layers


def test_the_uncertainty_of_one_slice_of_a_series(viewer, widget, segmented):
    series = np.random.default_rng(4).random((2, 3, 32, 40), np.float32)
    viewer.add_image(series)
    widget.slices.which.setCurrentText("current slice")
    segmented()
    widget.unsure.click()
    layer = viewer.layers[-1]
    assert layer.data.shape == (1, 1, 32, 40) and layer.data[0, 0].any()
    viewer.layers.remove(layer)
    assert not widget.unsure.isChecked() and widget.unsure.isEnabled()


def test_uncertainty_of_many_classes_reads_from_the_disk(
    stack, viewer, widget, segmented, tmp_path, own_preferences, monkeypatch
):
    limited = replace(own_preferences, memory_limit=0)
    monkeypatch.setattr("napari_msankd.segment.widget.preferences", lambda: limited)
    file = make_model(tmp_path / "organs.safetensors", CLASSES)
    widget.model.open(file)
    viewer.add_image(stack)
    labels = segmented()
    assert not isinstance(labels.data, np.ndarray)
    widget.unsure.click()
    maps = Predictor(load_model(file), "cpu").predict(stack[2])
    wrong = viewer.layers[f"{labels.name} uncertainty"].data[2]
    assert np.abs(wrong - (1 - maps.max(0))).max() < 0.006
