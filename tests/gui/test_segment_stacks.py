"""What the Segment widget does first, keeps and says of stacks."""

import numpy as np
import pytest

from .conftest import PATIENCE


@pytest.fixture
def long_stack():
    return np.random.default_rng(3).random((150, 24, 24), np.float32)


def test_a_stack_begins_with_the_slice_in_sight_and_says_which_it_reached(
    long_stack, viewer, widget, qtbot
):
    viewer.add_image(long_stack)
    viewer.dims.set_point(0, 140)
    widget.run.click()
    qtbot.waitUntil(lambda: widget.result is not None, timeout=PATIENCE)
    widget.stop.click()
    qtbot.waitUntil(lambda: not widget.running, timeout=PATIENCE)
    labels = widget.result
    begun = [index for (index,) in labels.metadata["msankd"]["slices begun"]]
    assert begun == [i for i in range(150) if labels.data[i].any()]
    assert 140 in begun and 139 not in begun


def test_three_slices_are_asked_whether_they_are_colours(viewer, widget, qtbot):
    viewer.add_image(np.random.default_rng(0).random((3, 32, 40), np.float32))
    qtbot.waitUntil(lambda: "if they are colours" in widget.outlook.text(), timeout=PATIENCE)


def test_the_threshold_goes_back_to_the_models_own(image, viewer, widget, qtbot):
    viewer.add_image(image, rgb=True)
    qtbot.waitUntil(lambda: bool(widget.device.text()), timeout=PATIENCE)
    assert not widget.own_threshold.isEnabled()
    widget.number.setValue(0.9)
    widget.own_threshold.click()
    assert widget.number.value() == 0.5
    assert not widget.own_threshold.isEnabled()
