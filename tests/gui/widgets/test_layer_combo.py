"""The combobox of layers: its default and its persistence."""

import gc
from weakref import ref

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image

from napari_msankd.widgets.layer_combo import LayerCombo


@pytest.fixture
def viewer():
    return ViewerModel()


@pytest.fixture
def combo(viewer, qtbot):
    made = LayerCombo(viewer, Image)
    qtbot.addWidget(made)
    return made


def photograph(viewer, name):
    pixels = np.random.default_rng(0).integers(0, 255, (8, 9, 3), np.uint8)
    return viewer.add_image(pixels, rgb=True, name=name)


def test_a_mask_that_is_open_as_an_image_is_not_preselected(viewer, combo):
    mask = viewer.add_image(np.resize([0, 255], (8, 9)).astype(np.uint8), name="mask")
    assert combo.layer is None
    eye = photograph(viewer, "eye")
    assert combo.layer is eye
    viewer.layers.selection.active = mask
    assert combo.layer is eye
    combo.setCurrentText("mask")
    assert combo.layer is mask
    viewer.layers.remove(mask)
    assert combo.layer is eye


def test_the_choice_survives_a_rename_and_a_namesake(viewer, combo, qtbot):
    first = photograph(viewer, "eye")
    second = photograph(viewer, "other")
    combo.layer = first
    first.name, second.name = "renamed", "eye"
    assert combo.layer is first and combo.currentText() == "renamed"


def test_a_deleted_combo_is_deaf(viewer, qtbot):
    combo = LayerCombo(viewer, Image)
    with qtbot.waitSignal(combo.destroyed):
        combo.deleteLater()
    eye = photograph(viewer, "eye")
    viewer.layers.selection.active = None
    viewer.layers.selection.active = eye


def test_a_collected_combo_leaves_nothing(viewer, qtbot):
    reference = ref(LayerCombo(viewer, Image))
    gc.collect()
    assert reference() is None
    photograph(viewer, "eye")
    assert not any(callback[0]() is None for callback in viewer.layers.events.inserted.callbacks)
