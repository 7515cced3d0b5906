"""The control for the camera angle: presets, free entry and unknown."""

import pytest
from qtpy.QtCore import Qt

from napari_msankd.widgets.camera_angle import CameraAngle


@pytest.fixture
def camera(qtbot):
    made = CameraAngle()
    qtbot.addWidget(made)
    return made


def texts(camera):
    return [camera.itemText(position) for position in range(camera.count())]


def test_presets_are_offered_and_the_models_own_is_marked(camera):
    assert texts(camera) == ["unknown", "30°", "35°", "45°", "50°", "200°"]
    camera.set_model_angle(45)
    assert texts(camera)[3] == "45°  as in training"
    camera.set_model_angle(60)
    assert texts(camera)[-2:] == ["60°  as in training", "200°"]


def test_a_preset_is_chosen(camera, qtbot):
    with qtbot.waitSignal(camera.valueChanged):
        camera.activated.emit(3)
    assert camera.angle == 45 and camera.text() == "45°"
    camera.activated.emit(0)
    assert camera.angle is None and camera.text() == "unknown"


@pytest.mark.parametrize(
    ("typed", "angle"), [("60", 60), ("62.5°", 62.5), ("", None), ("unknown", None), ("300", 200)]
)
def test_any_angle_can_be_typed(camera, qtbot, typed, angle):
    camera.setValue(30)
    camera.lineEdit().selectAll()
    qtbot.keyClick(camera.lineEdit(), Qt.Key.Key_Delete)
    qtbot.keyClicks(camera.lineEdit(), typed)
    qtbot.keyClick(camera.lineEdit(), Qt.Key.Key_Return)
    assert camera.angle == angle


def test_what_is_no_angle_leaves_the_former_one(camera, qtbot):
    camera.setValue(30)
    camera.setEditText("wide")
    qtbot.keyClick(camera.lineEdit(), Qt.Key.Key_Return)
    assert camera.angle == 30 and camera.text() == "30°"
