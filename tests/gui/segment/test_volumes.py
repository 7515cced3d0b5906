"""Volumes in the Segment widget: parts, slicing axes and physical units."""

import numpy as np
import pytest

from src_training.inference.model_file import load_model
from src_training.inference.predictor import Predictor, labels_from
from tests.gui.conftest import PATIENCE, make_model

MM = {"scale": (3, 0.5, 0.5), "units": ("mm", "mm", "mm"), "axis_labels": ("z", "y", "x")}


@pytest.fixture
def volume():
    return np.random.default_rng(5).random((6, 32, 40), np.float32)


def expected(model, plane):
    return labels_from(Predictor(load_model(model), "cpu").predict(plane), 0.5)


def test_a_range_of_slices_lies_where_it_was(volume, viewer, widget, segmented, model):
    image = viewer.add_image(volume, **MM)
    widget.slices.which.setCurrentText("range of slices")
    widget.slices.first.setValue(2)
    widget.slices.last.setValue(4)
    labels = segmented()
    assert labels.data.shape == (3, 32, 40)
    assert np.array_equal(labels.data, [expected(model, plane) for plane in volume[2:5]])
    assert np.allclose(labels.data_to_world((1, 5, 6)), image.data_to_world((3, 5, 6)))
    assert labels.metadata["msankd"]["slices"] == [2, 3, 4]


@pytest.mark.parametrize("axis", [1, 2])
def test_a_volume_is_segmented_along_another_axis(axis, volume, viewer, widget, segmented, model):
    viewer.add_image(volume, **MM)
    widget.slices.axis.setCurrentText("zyx"[axis])
    labels = segmented()
    assert labels.data.shape == volume.shape
    moved = np.moveaxis(volume, axis, 0)
    wanted = np.stack([expected(model, plane) for plane in moved])
    assert np.array_equal(np.moveaxis(np.asarray(labels.data), axis, 0), wanted)
    assert labels.metadata["msankd"]["axis"] == axis


def test_the_current_slice_along_another_axis_is_scored(
    volume, viewer, widget, segmented, model, qtbot
):
    image = viewer.add_image(volume, **MM)
    viewer.dims.set_point(1, 7.5)
    widget.slices.axis.setCurrentText("y")
    widget.slices.which.setCurrentText("current slice")
    labels = segmented()
    assert labels.data.shape == (6, 1, 40)
    assert np.allclose(labels.data_to_world((2, 0, 3)), image.data_to_world((2, 15, 3)))
    truth = np.zeros(volume.shape, np.uint8)
    truth[:, 15] = expected(model, volume[:, 15])
    widget.reference.layer = viewer.add_labels(truth, **MM)
    qtbot.waitUntil(lambda: "Dice 1.000" in widget.scores.text(), timeout=PATIENCE)


def test_choices_of_slices_are_there_for_stacks_only(volume, image, viewer, widget):
    widget.show()
    viewer.add_image(image, rgb=True)
    assert widget.slices.isHidden()
    viewer.add_image(volume, name="ct")
    widget.image.layer = viewer.layers["ct"]
    assert not widget.slices.isHidden() and widget.slices.last.value() == 5
    widget.slices.axis.setCurrentIndex(2)
    assert widget.slices.last.value() == 39


def test_a_series_of_volumes_has_no_choice_of_axis(viewer, widget, segmented, model):
    series = np.random.default_rng(6).random((2, 3, 32, 40), np.float32)
    viewer.add_image(series)
    viewer.dims.set_point(0, 1)
    assert widget.slices.axis.isHidden()
    widget.slices.which.setCurrentText("range of slices")
    widget.slices.first.setValue(1)
    labels = segmented()
    assert labels.data.shape == (1, 2, 32, 40)
    assert np.array_equal(labels.data[0, 1], expected(model, series[1, 2]))
    assert labels.metadata["msankd"]["slices"] == [[1, 1], [1, 2]]


def test_volumes_are_in_millilitres_and_follow_the_threshold(
    volume, viewer, widget, segmented, qtbot
):
    viewer.add_image(volume, **MM)
    labels = segmented()

    def volume_shown():
        ml = np.count_nonzero(labels.data) * 3 * 0.5 * 0.5 / 1000
        return f"vessel {ml:.3g} ml" == widget.volumes.text()

    qtbot.waitUntil(volume_shown, timeout=PATIENCE)
    before = widget.volumes.text()
    widget.threshold.setValue(0.8)
    qtbot.waitUntil(lambda: widget.volumes.text() != before and volume_shown(), timeout=PATIENCE)


def test_without_lengths_no_volume_is_shown(volume, viewer, widget, segmented, qtbot):
    viewer.add_image(volume)
    segmented()
    qtbot.waitUntil(lambda: not widget.solid.isHidden(), timeout=PATIENCE)
    assert widget.volumes.text() == ""


def test_the_3d_view_hides_the_image_until_the_2d_view(volume, viewer, widget, segmented):
    image = viewer.add_image(volume, **MM)
    labels = segmented()
    widget.solid.click()
    assert viewer.dims.ndisplay == 3 and not image.visible and labels.visible
    viewer.dims.ndisplay = 2  # napari's own button
    assert image.visible and not widget.solid.isChecked()
    widget.solid.click()
    widget.solid.click()
    assert viewer.dims.ndisplay == 2 and image.visible


def test_an_image_that_was_hidden_before_stays_hidden(volume, viewer, widget, segmented):
    image = viewer.add_image(volume, **MM)
    segmented()
    image.visible = False
    widget.solid.click()
    widget.solid.click()
    assert not image.visible


def test_in_a_3d_view_a_run_adds_one_layer(volume, viewer, widget, segmented):
    viewer.add_image(volume, **MM)
    viewer.dims.ndisplay = 3
    labels = segmented()
    assert [layer for layer in viewer.layers if layer._type_string == "labels"] == [labels]
    assert list(labels.features["class"]) == ["background", "vessel"]


def test_a_rolled_view_chooses_the_axis(volume, viewer, widget, segmented, model):
    viewer.add_image(volume, **MM)
    viewer.dims.order = (2, 0, 1)
    viewer.dims.set_current_step(2, 9)
    assert widget.slices.axis.currentText() == "x"
    widget.slices.which.setCurrentText("current slice")
    labels = segmented()
    assert labels.data.shape == (6, 32, 1)
    assert np.array_equal(labels.data[..., 0], expected(model, volume[..., 9]))


def test_slices_along_another_axis_are_warned_of(volume, viewer, widget, tmp_path, qtbot):
    widget.model.open(make_model(tmp_path / "ct.safetensors", spacing=(3, 0.5, 0.5)))
    viewer.add_image(volume, **MM)
    qtbot.waitUntil(lambda: "✓" in widget.compatibility.text(), timeout=PATIENCE)
    viewer.dims.order = (2, 0, 1)
    words = "⚠ This model was trained on slices along the first axis of a volume; these run along"
    qtbot.waitUntil(lambda: words in widget.compatibility.text(), timeout=PATIENCE)


def test_a_spacing_far_from_the_training_is_said(volume, viewer, widget, tmp_path, qtbot):
    widget.model.open(make_model(tmp_path / "ct.safetensors", spacing=(5, 0.8, 0.8)))
    viewer.add_image(volume, scale=(5, 0.3, 0.3), units=("mm", "mm", "mm"))
    words = "5 × 0.8 × 0.8 mm (slice, row, column); these are 5 × 0.3 × 0.3 mm"
    qtbot.waitUntil(lambda: words in widget.compatibility.text(), timeout=PATIENCE)
