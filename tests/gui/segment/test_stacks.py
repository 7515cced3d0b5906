"""Stacks in the Segment widget: order of slices, stored values and messages."""

import numpy as np
import pytest

from src_training.data.slice_context import neighbouring
from src_training.inference.model_file import load_model
from src_training.inference.predictor import Predictor, labels_from
from tests.gui.conftest import PATIENCE, make_model


@pytest.fixture
def long_stack():
    return np.random.default_rng(3).random((150, 24, 24), np.float32)


def test_a_stack_begins_with_the_displayed_slice(long_stack, viewer, widget, qtbot):
    viewer.add_image(long_stack)
    viewer.dims.set_point(0, 140)
    widget.run.click()
    qtbot.waitUntil(lambda: widget.result is not None, timeout=PATIENCE)
    widget.stop.click()
    qtbot.waitUntil(lambda: not widget.running, timeout=PATIENCE)
    labels = widget.result
    slices = labels.metadata["msankd"]["slices"]
    assert slices == [i for i in range(150) if labels.data[i].any()]
    assert 140 in slices and 139 not in slices


def test_three_slices_are_asked_whether_they_are_colours(viewer, widget, qtbot):
    viewer.add_image(np.random.default_rng(0).random((3, 32, 40), np.float32))
    qtbot.waitUntil(lambda: "color channels" in widget.compatibility.text(), timeout=PATIENCE)


def test_photographs_in_a_stack_are_no_volume(viewer, widget, segmented, qtbot):
    eyes = np.random.default_rng(0).integers(0, 255, (3, 32, 40, 3), np.uint8)
    place = {"scale": (1, 0.5, 0.5), "units": ("mm",) * 3}
    viewer.add_image(eyes[..., 1], name="ct", **place)
    assert not widget.slices.axis.isHidden()
    viewer.add_image(eyes, rgb=True, name="eyes", **place)
    assert widget.slices.axis.isHidden()
    qtbot.waitUntil(lambda: "All 3 slices" in widget.compatibility.text(), timeout=PATIENCE)
    assert "color channels" not in widget.compatibility.text()
    segmented()
    qtbot.wait(300)
    assert "measure" not in widget.workers
    assert widget.solid.isHidden() and widget.volumes.text() == ""


def test_the_threshold_goes_back_to_the_models_own(image, viewer, widget, qtbot):
    viewer.add_image(image, rgb=True)
    qtbot.waitUntil(lambda: bool(widget.device.text()), timeout=PATIENCE)
    assert not widget.automatic.isEnabled()
    widget.threshold.setValue(0.9)
    widget.automatic.click()
    assert widget.threshold.value() == 0.5
    assert not widget.automatic.isEnabled()


@pytest.fixture
def own_model(widget, tmp_path):
    """A chosen model with a separate threshold for each image."""
    path = make_model(tmp_path / "own.safetensors", threshold=0.45, per_image_threshold=True)
    widget.model.open(path)
    return path


def own_labels(path, plane):
    model = load_model(path)
    maps = Predictor(model, "cpu").predict(plane)
    return labels_from(maps, model.card.threshold_for(maps)), model.card.threshold_for(maps)


def test_the_slider_shows_the_threshold_of_the_image(
    image, viewer, widget, own_model, segmented, qtbot
):
    viewer.add_image(image, rgb=True)
    labels = segmented()
    wanted, own = own_labels(own_model, image)
    assert np.array_equal(labels.data, wanted) and own != 0.45
    assert labels.metadata["msankd"]["threshold"] == own
    assert widget.threshold.value() == own and not widget.automatic.isEnabled()
    widget.threshold.setValue(0.9)
    qtbot.waitUntil(lambda: not np.array_equal(labels.data, wanted), timeout=PATIENCE)
    widget.automatic.click()
    qtbot.waitUntil(lambda: np.array_equal(labels.data, wanted), timeout=PATIENCE)
    assert widget.threshold.value() == own
    assert labels.metadata["msankd"]["threshold"] == own


def test_the_slider_follows_the_threshold_of_each_slice(
    stack, viewer, widget, own_model, segmented, qtbot
):
    stack[1] **= 6
    viewer.add_image(stack)
    labels = segmented()
    cuts = []
    for index, plane in enumerate(stack):
        wanted, own = own_labels(own_model, plane)
        assert np.array_equal(labels.data[index], wanted)
        viewer.dims.set_point(0, index)
        assert widget.threshold.value() == own
        cuts.append(own)
    assert len(set(cuts)) > 1
    assert labels.metadata["msankd"]["thresholds"] == cuts
    widget.threshold.setValue(0.3)
    viewer.dims.set_point(0, 0)
    assert widget.threshold.value() == 0.3


def test_a_model_of_neighbouring_slices_sees_those_of_the_stack(
    stack, viewer, widget, segmented, tmp_path
):
    path = make_model(tmp_path / "planes.safetensors", neighbours=3)
    widget.model.open(path)
    viewer.add_image(stack)
    labels = segmented().data
    predictor = Predictor(load_model(path), "cpu")
    for z in range(len(stack)):
        maps = predictor.predict(neighbouring(stack, z, 3))
        np.testing.assert_array_equal(labels[z], labels_from(maps, 0.5))
    alone = labels_from(predictor.predict(stack[1]), 0.5)
    assert (labels[1] != alone).any(), "its neighbours count"


def test_a_single_slice_for_a_model_of_neighbours_is_warned_of(
    stack, viewer, widget, qtbot, tmp_path
):
    widget.model.open(make_model(tmp_path / "planes.safetensors", neighbours=3))
    viewer.add_image(stack[0])
    qtbot.waitUntil(
        lambda: "reads 3 neighbouring slices" in widget.compatibility.text(), timeout=PATIENCE
    )
