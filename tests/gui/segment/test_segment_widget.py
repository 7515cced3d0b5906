"""The Segment widget: from an image to labels."""

import json

import dask.array as da
import numpy as np
import pytest
import zarr
from napari.layers import Labels

from napari_msankd.segment import inference as segmenting
from src_training.inference.model_file import load_model
from src_training.inference.predictor import Predictor, labels_from
from tests.gui.conftest import PATIENCE, make_model

# Warning filters are global in Python: when a worker leaves its `catch_warnings` block, it resets
# the filters of napari and MONAI in other threads.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Conversion from CIE-LAB:UserWarning"),
]


def expected(model, plane, threshold=0.5):
    return labels_from(Predictor(load_model(model), "cpu").predict(plane), threshold)


def pyramid(image):
    return [image, image[::2, ::2]]


KINDS = {
    "colour": lambda image: (image, {"rgb": True}),
    "grey": lambda image: (image[..., 1], {}),
    "float": lambda image: (image[..., 1] / 255, {}),
    "16 bit": lambda image: (image[..., 1].astype(np.uint16) * 200, {}),
    "bool": lambda image: (image[..., 1] > 100, {}),
    "pyramid": lambda image: (pyramid(image[..., 1]), {"multiscale": True}),
    "colour pyramid": lambda image: (pyramid(image), {"multiscale": True, "rgb": True}),
    "dask": lambda image: (da.from_array(image, chunks=(16, 16, 3)), {"rgb": True}),
    "zarr": lambda image: (zarr.array(image[..., 0]), {}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_image_becomes_labels_of_the_engine(
    kind, image, viewer, widget, segmented, model
):
    data, options = KINDS[kind](image)
    layer = viewer.add_image(data, name="eye", **options)
    widget.image.layer = layer
    labels = segmented()
    finest = np.asarray(data[0] if layer.multiscale else data)
    finest = finest.astype(np.uint8) if finest.dtype == bool else finest
    assert isinstance(labels, Labels)
    assert labels.data.dtype == np.uint8
    assert np.array_equal(labels.data, expected(model, finest))


@pytest.mark.parametrize("wrap", [np.asarray, da.from_array, zarr.array])
def test_a_stack_is_segmented_slice_by_slice(wrap, stack, viewer, segmented, model):
    viewer.add_image(wrap(stack))
    labels = segmented()
    assert labels.data.shape == stack.shape
    for found, plane in zip(labels.data, stack, strict=True):
        assert np.array_equal(found, expected(model, plane))


def test_a_stack_of_colour_with_two_sliders(viewer, segmented):
    viewer.add_image(np.random.default_rng(0).random((2, 3, 24, 28, 3)), rgb=True)
    labels = segmented()
    assert labels.data.shape == (2, 3, 24, 28)
    assert all(plane.any() for time in labels.data for plane in time)


def test_place_units_and_axes_are_those_of_the_image(stack, viewer, segmented):
    place = {
        "scale": (4, 0.5, 0.5),
        "translate": (1, 2, 3),
        "rotate": (0, 0, 20),
        "shear": (0, 0, 0.1),
        "units": ("um", "um", "um"),
        "axis_labels": ("z", "y", "x"),
    }
    image = viewer.add_image(stack, **place, affine=np.diag([1, 2, 2, 1]))
    labels = segmented()
    for point in [(0, 0, 0), (3, 31, 39), (1, 5, 7)]:
        assert np.allclose(labels.data_to_world(point), image.data_to_world(point))
    assert labels.units == image.units
    assert labels.axis_labels == ("z", "y", "x")


def test_the_current_slice_alone_lies_on_its_slice(stack, viewer, widget, segmented, model):
    image = viewer.add_image(stack, scale=(3, 1, 1))
    viewer.dims.set_point(0, 6)
    widget.slices.which.setCurrentText("current slice")
    labels = segmented()
    assert labels.data.shape == (1, 32, 40)
    assert np.array_equal(labels.data[0], expected(model, stack[2]))
    assert np.allclose(labels.data_to_world((0, 0, 0)), image.data_to_world((2, 0, 0)))


def test_nothing_is_overwritten(image, viewer, segmented):
    viewer.add_image(image, name="eye", rgb=True)
    first = segmented()
    before = first.data.copy()
    first.data[:] = 7
    second = segmented()
    assert second is not first
    assert (first.data == 7).all()
    assert np.array_equal(second.data, before)
    assert len({layer.name for layer in viewer.layers}) == 3


def test_a_result_has_a_machine_readable_record(image, viewer, widget, segmented, model):
    layer = viewer.add_image(image, name="eye", rgb=True)
    widget.flips.setChecked(True)
    record = json.loads(json.dumps(segmented().metadata["msankd"]))
    assert {key: record[key] for key in ("model", "input", "flips", "axis", "slices")} == {
        "model": "tiny",
        "input": "eye",
        "flips": True,
        "axis": 0,
        "slices": [],
    }
    assert record["input_id"] == str(layer.unique_id)
    assert record["model_sha256"] == load_model(model).sha256
    assert (record["threshold"], record["thresholds"], record["angle_degrees"]) == (
        0.5,
        [0.5],
        None,
    )
    assert record["device"].startswith("CPU") and record["seconds"] > 0
    assert record["complete"] is True
    assert {"version", "started"} <= set(record)


def test_the_threshold_acts_without_a_new_run(image, viewer, widget, segmented, model, qtbot):
    viewer.add_image(image, rgb=True)
    labels = segmented()
    for threshold in (0.3, 0.62):
        widget.threshold.setValue(threshold)
        wanted = expected(model, image, threshold)
        assert 0 < (wanted != expected(model, image)).mean() < 1
        qtbot.waitUntil(lambda wanted=wanted: np.array_equal(labels.data, wanted), timeout=PATIENCE)
    assert labels.metadata["msankd"]["threshold"] == 0.62
    assert widget.threshold.value() == pytest.approx(0.62)
    assert len(viewer.layers) == 2


def test_the_threshold_acts_on_every_slice(stack, viewer, widget, segmented, model, qtbot):
    viewer.add_image(stack)
    labels = segmented()
    widget.threshold.setValue(0.4)
    wanted = np.stack([expected(model, plane, 0.4) for plane in stack])
    qtbot.waitUntil(lambda: np.array_equal(labels.data, wanted), timeout=PATIENCE)


def test_the_threshold_leaves_painted_labels_alone(image, viewer, widget, segmented):
    viewer.add_image(image, rgb=True)
    painted = segmented()
    painted.data_setitem((np.array([3]), np.array([4])), 1)
    painted.data_setitem((np.array([3]), np.array([4])), 0)
    before = painted.data.copy()
    widget.threshold.setValue(0.2)
    assert np.array_equal(painted.data, before)
    assert widget.result is not painted
    assert widget.result.data.sum() >= before.sum()
    cuts = [each.metadata["msankd"]["threshold"] for each in (painted, widget.result)]
    assert cuts == [0.5, 0.2]


def test_the_image_follows_the_layer_list(image, viewer, widget):
    one, two = (viewer.add_image(image, rgb=True) for _ in range(2))
    for layer in (one, two, one):
        viewer.layers.selection.active = layer
        assert widget.image.layer == layer
    viewer.layers.selection.active = viewer.add_labels(image[..., 0].astype(int))
    assert widget.image.layer == one


def test_the_message_about_a_result_goes_with_its_layer(image, viewer, widget, segmented):
    viewer.add_image(image, rgb=True)
    labels = segmented()
    assert "is ready" in widget.status.text()
    viewer.layers.remove(labels)
    assert widget.status.text() == ""


def test_the_model_brings_its_threshold(image, viewer, widget, segmented, tmp_path, qtbot):
    viewer.add_image(image, rgb=True)
    widget.model.open(make_model(tmp_path / "eager.safetensors", threshold=0.37))
    qtbot.waitUntil(lambda: widget.threshold.value() == 0.37, timeout=PATIENCE)
    assert segmented().metadata["msankd"]["threshold"] == 0.37


def test_more_classes_need_no_threshold(image, viewer, widget, segmented, tmp_path):
    viewer.add_image(image, rgb=True)
    widget.model.open(
        make_model(tmp_path / "organs.safetensors", ("background", "liver", "spleen"))
    )
    labels = segmented()
    assert not widget.threshold.isEnabled()
    assert labels.data.max() <= 2
    assert list(labels.features["class"]) == ["background", "liver", "spleen"]


def test_an_image_that_cannot_be_used_is_named_in_one_sentence(viewer, widget, segmented):
    data = np.ones((32, 32), np.float32)
    data[3, 4] = np.nan
    viewer.add_image(data, name="hole", contrast_limits=(0, 1))
    assert segmented() is None
    assert "NaN" in widget.status.text()
    assert "Traceback" not in widget.status.text()
    assert not widget.details.isVisible()
    assert widget.run.isEnabled()


def test_a_model_that_is_not_ours_is_named(image, viewer, widget, segmented, tmp_path):
    foreign = tmp_path / "foreign.safetensors"
    foreign.write_bytes(b"not a model")
    viewer.add_image(image, rgb=True)
    widget.model.open(foreign)
    assert segmented() is None
    assert "foreign.safetensors" in widget.status.text()


def test_an_unexpected_error_is_a_sentence_with_details(
    image, viewer, widget, segmented, monkeypatch, qtbot
):
    def broken(*_):
        raise RuntimeError("the sky fell")

    monkeypatch.setattr(segmenting, "_model_info", broken)
    viewer.add_image(image, rgb=True)
    assert segmented() is None
    assert "the sky fell" in widget.status.text()
    assert "Traceback" not in widget.status.text()
    assert not widget.details.isHidden()
    widget.details.click()
    assert widget.run.isEnabled()


def test_a_layer_whose_pixels_cannot_be_read_is_named(viewer, widget, segmented):
    there = [True]

    def read(block):
        if not there[0]:
            raise OSError("the disk is gone")
        return block

    pixels = da.from_array(np.random.rand(3, 24, 24), (1, 24, 24))
    viewer.add_image(pixels.map_blocks(read, dtype=float, meta=np.zeros((0, 0, 0))), name="far")
    there[0] = False
    assert segmented() is None
    assert "'far'" in widget.status.text()
    assert "the disk is gone" in widget.status.text()


def test_a_reference_is_scored_beside_it(image, viewer, widget, segmented, qtbot):
    viewer.add_image(image, rgb=True)
    labels = segmented()
    viewer.add_labels(labels.data * 255, name="expert")
    widget.reference.layer = viewer.layers["expert"]
    qtbot.waitUntil(lambda: "Dice 1.000" in widget.scores.text(), timeout=PATIENCE)
    assert "sensitivity 1.000" in widget.scores.text()
    assert "HD95 0.0 px" in widget.scores.text()
    widget.threshold.setValue(0.7)
    qtbot.waitUntil(lambda: "Dice 1.000" not in widget.scores.text(), timeout=PATIENCE)


def test_one_slice_is_scored_against_its_slice(stack, viewer, widget, segmented, model, qtbot):
    viewer.add_image(stack)
    truth = np.zeros(stack.shape, np.uint8)
    truth[3] = expected(model, stack[3])
    viewer.dims.set_point(0, 3)
    widget.slices.which.setCurrentText("current slice")
    segmented()
    widget.reference.layer = viewer.add_labels(truth)
    qtbot.waitUntil(lambda: "Dice 1.000" in widget.scores.text(), timeout=PATIENCE)


def test_a_reference_that_lies_elsewhere_is_refused(image, viewer, widget, segmented, qtbot):
    viewer.add_image(image, rgb=True)
    segmented()
    truth = np.ones(image.shape[:2], int)
    widget.reference.layer = viewer.add_labels(truth, name="moved", translate=(0, 5))
    sentence = "Reference 'moved' lies on another grid than the result: origin (0, 5) px against"
    qtbot.waitUntil(lambda: sentence in widget.scores.text(), timeout=PATIENCE)


def test_a_reference_of_another_shape_is_refused(image, viewer, widget, segmented, qtbot):
    viewer.add_image(image, rgb=True)
    segmented()
    widget.reference.layer = viewer.add_labels(np.zeros((5, 6), int), name="other")
    qtbot.waitUntil(
        lambda: "'other' has 6 × 5 px (w × h); expected 48 × 40 px" in widget.scores.text(),
        timeout=PATIENCE,
    )


def test_a_large_result_goes_to_the_disk_and_says_so(
    stack, viewer, widget, segmented, model, monkeypatch, own_preferences, qtbot
):
    from dataclasses import replace

    from napari_msankd.segment import widget as segment

    small = replace(own_preferences, memory_limit=1000)
    monkeypatch.setattr(segment, "preferences", lambda: small)
    viewer.add_image(stack)
    qtbot.waitUntil(lambda: "zarr on disk" in widget.compatibility.text(), timeout=PATIENCE)
    labels = segmented()
    assert isinstance(labels.data, zarr.Array)
    widget.threshold.setValue(0.4)
    wanted = np.stack([expected(model, plane, 0.4) for plane in stack])
    qtbot.waitUntil(lambda: np.array_equal(labels.data[:], wanted), timeout=PATIENCE)
    assert str(small.cache) in widget.status.text()


def test_compatibility_and_device_show_before_a_run(stack, viewer, widget, qtbot):
    qtbot.waitUntil(lambda: "Runs on CPU" in widget.device.text(), timeout=PATIENCE)
    viewer.add_image(stack)
    qtbot.waitUntil(lambda: "All 4 slices" in widget.compatibility.text(), timeout=PATIENCE)
    assert "Estimated memory" in widget.device.text()


def test_with_nothing_open_a_sample_is_offered(viewer, widget, qtbot):
    assert not widget.empty.isHidden()
    assert not widget.run.isEnabled()
    widget.sample.click()
    qtbot.waitUntil(lambda: len(viewer.layers) == 2, timeout=PATIENCE)
    assert widget.empty.isHidden()
    assert widget.run.isEnabled()
    assert widget.image.layer.rgb


def test_the_comboboxes_follow_the_layers(image, viewer, widget):
    first = viewer.add_image(image, name="one", rgb=True)
    second = viewer.add_image(image, name="two", rgb=True)
    widget.image.layer = first
    first.name = "uno"
    assert widget.image.currentText() == "uno"
    viewer.layers.remove(first)
    assert widget.image.layer == second
