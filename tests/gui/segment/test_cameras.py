"""The camera angle in the Segment widget: its visibility and its value for each image."""

import numpy as np
import pytest

from src_training.data.phantom.camera import fundus_phantom
from src_training.data.preprocessing import FundusPreprocessing
from tests.gui.conftest import PATIENCE

pytestmark = pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")


@pytest.fixture
def eye():
    return fundus_phantom(1, 96, "A").image


@pytest.fixture
def shows_camera(widget, tiny_model, tmp_path, qtbot):
    """Load a model of a camera of 30 degrees; return whether the camera field shows."""
    tiny_model(FundusPreprocessing(diameter=64, angle=30)).save(tmp_path / "fundus.safetensors")
    widget.model.open(tmp_path / "fundus.safetensors")

    def look():
        qtbot.waitUntil(
            lambda: "✓" in widget.compatibility.text() or "⚠" in widget.compatibility.text()
        )
        qtbot.waitUntil(lambda: not widget.workers, timeout=PATIENCE)
        return widget.choices.isRowVisible(widget.camera)

    return look


def test_no_camera_is_asked_for_of_a_volume_and_none_acts(
    eye, viewer, widget, shows_camera, segmented, qtbot
):
    viewer.add_image(eye, rgb=True, name="eye")
    assert shows_camera()
    widget.camera.setValue(45)
    viewer.add_image(np.stack([eye[..., 1]] * 2), name="ct")
    assert not widget.choices.isRowVisible(widget.camera)
    assert not shows_camera()
    assert segmented().metadata["msankd"]["angle_degrees"] is None
    viewer.add_image(np.stack([eye] * 2), rgb=True, name="eyes")
    assert shows_camera() and widget.camera.angle == 45


def test_the_angle_stays_for_the_next_photograph_and_is_restored(
    eye, viewer, widget, shows_camera, segmented
):
    one, two, new = (viewer.add_image(eye, rgb=True, name=name) for name in ("one", "two", "new"))
    assert shows_camera()
    for image, angle in ((one, 45), (two, 60)):
        widget.image.layer = image
        widget.camera.setValue(angle)
        assert segmented().metadata["msankd"]["angle_degrees"] == angle
    widget.image.layer = one
    assert widget.camera.angle == 45
    widget.image.layer = new
    assert widget.camera.angle == 45 and widget.choices.isRowVisible(widget.camera)
    widget.camera.setValue(0)
    segmented()
    widget.image.layer = two
    assert widget.camera.angle == 60
    widget.image.layer = new
    assert widget.camera.angle is None
