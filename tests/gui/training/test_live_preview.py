"""Live preview: the current slice is written for a run, and the run's labels are shown."""

import os

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_msankd.training.monitor.live_preview import LivePreview
from src_training.runs.directory import RunDirectory
from tests.gui.conftest import PATIENCE


@pytest.fixture
def viewer():
    return ViewerModel()


@pytest.fixture
def run(tmp_path):
    return RunDirectory(tmp_path / "run é")


@pytest.fixture
def preview(viewer, qtbot):
    made = LivePreview(viewer)
    yield made
    made.close()
    qtbot.wait(50)


def watch(preview, layer, run, qtbot):
    with qtbot.waitSignal(preview.written, timeout=PATIENCE):
        preview.watch(layer, run.path)


def answer(preview, run, labels, qtbot):
    """Write labels as a run does at a validation."""
    np.save(run.preview_labels, labels)
    with qtbot.waitSignal(preview.shown, timeout=PATIENCE):
        preview.show(run.preview_labels)


def test_the_slice_in_sight_is_given_and_its_labels_lie_on_it(viewer, preview, run, stack, qtbot):
    place = {"scale": (3, 0.5, 0.5), "translate": (9, 1, 2), "units": ("um",) * 3}
    image = viewer.add_image(stack, **place)
    viewer.dims.set_point(0, 9 + 2 * 3)
    watch(preview, image, run, qtbot)
    assert np.array_equal(np.load(run.preview_input), stack[2])
    labels = (stack[2] > 0.5).astype(np.uint8)
    answer(preview, run, labels, qtbot)
    assert np.array_equal(preview.layer.data, labels[None])
    assert preview.layer.units == image.units
    assert np.allclose(preview.layer.data_to_world((0, 5, 6)), image.data_to_world((2, 5, 6)))
    assert viewer.layers.selection.active is image


def test_a_colour_image_is_given_whole(viewer, preview, run, image, qtbot):
    watch(preview, viewer.add_image(image, rgb=True), run, qtbot)
    assert np.array_equal(np.load(run.preview_input), image)


def test_labels_are_renewed_in_place(viewer, preview, run, stack, qtbot):
    watch(preview, viewer.add_image(stack), run, qtbot)
    answer(preview, run, np.zeros(stack.shape[1:], np.uint8), qtbot)
    first = preview.layer
    answer(preview, run, np.ones(stack.shape[1:], np.uint8), qtbot)
    assert preview.layer is first
    assert (first.data == 1).all()
    assert len(viewer.layers) == 2


def test_another_slice_is_given_once_it_rests_in_sight(viewer, preview, run, stack, qtbot):
    image = viewer.add_image(stack)
    viewer.dims.set_point(0, 0)
    watch(preview, image, run, qtbot)
    answer(preview, run, np.ones(stack.shape[1:], np.uint8), qtbot)
    with qtbot.waitSignal(preview.written, timeout=PATIENCE):
        for place in (1, 2, 3):
            viewer.dims.set_point(0, place)
    assert np.array_equal(np.load(run.preview_input), stack[3])
    answer(preview, run, np.ones(stack.shape[1:], np.uint8), qtbot)
    assert np.allclose(preview.layer.data_to_world((0, 0, 0)), (3, 0, 0))


def test_labels_of_the_slice_before_are_passed_over(viewer, preview, run, stack, qtbot):
    watch(preview, viewer.add_image(stack), run, qtbot)
    np.save(run.preview_labels, np.ones(stack.shape[1:], np.uint8))
    given = run.preview_input.stat().st_mtime_ns
    os.utime(run.preview_labels, ns=(given - 1, given - 1))
    preview.show(run.preview_labels)
    qtbot.waitUntil(lambda: not preview.workers, timeout=PATIENCE)
    assert preview.layer is None


def test_labels_of_another_size_or_run_are_passed_over(viewer, preview, run, stack, qtbot):
    watch(preview, viewer.add_image(stack), run, qtbot)
    np.save(run.preview_labels, np.ones((3, 3), np.uint8))
    preview.show(run.preview_labels)
    preview.show(run.path.parent / "other" / "preview" / "labels.npy")
    qtbot.waitUntil(lambda: not preview.workers, timeout=PATIENCE)
    assert preview.layer is None


def test_painted_labels_of_a_person_are_left_alone(viewer, preview, run, stack, qtbot):
    image = viewer.add_image(stack)
    own = viewer.add_labels(np.full(stack.shape, 7, np.uint8))
    watch(preview, image, run, qtbot)
    answer(preview, run, np.ones(stack.shape[1:], np.uint8), qtbot)
    assert preview.layer is not own
    assert (own.data == 7).all()


@pytest.mark.parametrize("which", ["image", "labels"])
def test_it_ends_with_its_layers(viewer, preview, run, stack, qtbot, which):
    image = viewer.add_image(stack)
    watch(preview, image, run, qtbot)
    answer(preview, run, np.ones(stack.shape[1:], np.uint8), qtbot)
    viewer.layers.remove(image if which == "image" else preview.layer)
    assert not preview.active
    preview.show(run.preview_labels)
    assert not preview.workers
