"""Masks whose grid differs from that of their image: reported, and resampled by a button."""

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from napari.components import ViewerModel
from napari.layers import Image, Labels

from napari_msankd.datasets.layer_pairs import matched, other_grid
from napari_msankd.datasets.state import DatasetState
from napari_msankd.layers import placement
from src_training.runs.data import load_domain
from tests.gui.conftest import PATIENCE
from tests.gui.datasets.test_state import read

SHAPE = (4, 12, 16)
SCALE = (2.5, 0.7, 0.7)
MASK = np.zeros(SHAPE, np.uint8)
MASK[1:3, 3:9, 4:8] = 2


def scan(**place):
    return Image(np.zeros(SHAPE, np.int16), name="ct", **{"scale": SCALE} | place)


def mask(**place):
    return Labels(MASK, name="liver", **{"scale": SCALE} | place)


@pytest.mark.parametrize(
    ("place", "what"),
    [
        ({"scale": (1, 1, 1)}, "spacing 1 × 1 × 1 px against 2.5 × 0.7 × 0.7 px (z × y × x)"),
        ({"translate": (25, 0, 0)}, "origin (25, 0, 0) px against (0, 0, 0) px (z, y, x)"),
        ({"rotate": 12}, "axes up to 12.0 degrees apart"),
        ({"affine": np.diag([1, 1, -1, 1])}, "axes up to 180.0 degrees apart"),
    ],
)
def test_labels_that_lie_elsewhere_are_said(place, what):
    viewer = ViewerModel()
    viewer.add_layer(scan()), viewer.add_layer(mask(**place))
    state = read(DatasetState(), viewer)
    [sentence] = state.problems
    assert sentence.startswith("Labels layer 'liver' lies on another grid than image layer 'ct': ")
    assert what in sentence and state.value() is None


@given(
    st.tuples(*[st.floats(0.1, 9)] * 3),
    st.tuples(*[st.floats(-300, 300)] * 3),
    st.floats(-90, 90),
    st.sampled_from([1, 1 + 1e-6, -1]),
)
def test_the_same_place_is_one_grid_however_it_is_said(scale, translate, rotate, factor):
    image = scan(scale=scale, translate=translate, rotate=rotate)
    own = placement(image)
    if factor == -1:  # all of it in the affine
        whole = image.affine.affine_matrix.copy()
        whole[:3, :3] = image.rotate @ np.diag(scale)
        whole[:3, 3] = translate
        own = {"affine": whole, "scale": (1, 1, 1)}
    else:
        own |= {"scale": np.multiply(scale, factor)}
    assert other_grid(image, mask(**own)) == ""


def test_units_of_length_are_converted():
    image = scan(units=("mm",) * 3)
    assert other_grid(image, mask(scale=np.multiply(SCALE, 1000), units=("um",) * 3)) == ""
    assert "spacing 0.0025 × " in other_grid(image, mask(units=("um",) * 3))


def test_labels_in_the_same_place_come_first():
    here, there = scan(translate=(0, 0, 50)), scan()
    masks = [mask(), mask(translate=(0, 0, 50))]
    assert matched([here, there], masks) == masks[::-1]


def test_labels_are_resampled_to_their_image():
    viewer = ViewerModel()
    image = viewer.add_layer(scan())
    viewer.add_layer(mask(translate=(2.5, 0, 0.7)))
    state = read(DatasetState(), viewer)
    assert state.resample_text == "Resample it to its image"
    for item in state.resample():
        state.add_resampled(viewer, item)
    read(state, viewer)
    layer = viewer.layers["liver resampled"]
    assert state.problems == () and state.resample_text == ""
    assert [(row.image, row.labels) for row in state.chosen] == [(image, layer)]
    expected = np.zeros(SHAPE, np.uint8)
    expected[2:4, 3:9, 5:9] = 2
    assert np.array_equal(layer.data, expected)
    assert "'liver resampled' is resampled to the grid of the image" in state.text
    assert "0 of 48 labelled voxels (0.0 %) lay outside" in state.text


@pytest.fixture
def folder(tmp_path):
    affine = np.diag([0.7, 0.7, 2.5, 1])
    moved = affine.copy()
    moved[2, 3] = 2.5
    for part, voxels, place in (
        ("images", np.zeros(SHAPE, np.int16), affine),
        ("masks", MASK, moved),
    ):
        (tmp_path / part).mkdir()
        image = nibabel.Nifti1Image(np.ascontiguousarray(voxels.T), place)
        nibabel.save(image, tmp_path / part / "a.nii.gz")
    return tmp_path


def test_masks_of_a_folder_are_resampled_by_a_button(folder, make_choice, qtbot):
    choice = make_choice()
    choice.choose_folder(folder)
    qtbot.waitUntil(lambda: not choice.looking, timeout=PATIENCE)
    assert "masks/a.nii.gz lies on another grid" in choice.faults.text().replace("\u200b", "")
    assert choice.value() is None and choice.remedies.resample.text() == "Resample it to its image"
    choice.remedies.resample.click()
    qtbot.waitUntil(lambda: not choice.looking, timeout=PATIENCE)
    assert choice.faults.text() == "" and choice.remedies.resample.isHidden()
    assert "masks/a.nii.gz is resampled" in choice.summary.text()
    recipe = choice.value().recipe(folder / "run")
    assert recipe.resample_masks
    [volume] = load_domain(recipe, masks_required=True).resampled_masks
    assert volume == "a"
    assert choice.remedies.include.text() == "Do not resample masks"
    choice.remedies.include.click()
    qtbot.waitUntil(lambda: not choice.looking, timeout=PATIENCE)
    assert choice.value() is None


def test_a_layer_that_is_moved_is_read_again(make_choice, viewer, qtbot):
    viewer.add_layer(scan())
    labels = viewer.add_layer(mask())
    choice = make_choice()
    qtbot.waitUntil(lambda: not choice.looking, timeout=PATIENCE)
    assert choice.faults.text() == ""
    labels.translate = (25, 0, 0)
    qtbot.waitUntil(lambda: "lies on another grid" in choice.faults.text(), timeout=PATIENCE)
    choice.remedies.resample.click()
    qtbot.waitUntil(lambda: "is empty on the grid" in choice.faults.text(), timeout=PATIENCE)
    assert choice.remedies.resample.isEnabled()
