"""State of the Segment widget, with a viewer model."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_msankd.layers import shown_axis
from napari_msankd.masks import is_mask_like
from napari_msankd.segment.inference import ModelInfo
from napari_msankd.segment.metrics import Scores, format_volumes
from napari_msankd.segment.quality import ResultQuality, expected_text, quality_of, slice_curve
from napari_msankd.segment.state import (
    Figure,
    Progress,
    SegmentState,
    SliceChoice,
    empty_text,
    end_message,
    span_text,
)
from napari_msankd.settings import Preferences
from src_training.errors import InputError
from src_training.inference.expected_dice import ExpectedDice, SourceComparison, SourceDice

MODEL = Path("model.safetensors")
FUNDUS = ModelInfo("f", "", ("background", "vessel"), 0.4, False, 30, "", "CPU")


@pytest.fixture
def viewer():
    return ViewerModel()


@pytest.fixture
def state():
    made = SegmentState()
    made.choose_model(MODEL)
    return made


@pytest.fixture
def volume(viewer, state):
    """A chosen volume of 4 × 5 × 6 voxels, with the middle displayed."""
    layer = viewer.add_image(np.random.default_rng(0).random((4, 5, 6)))
    viewer.dims.set_current_step((0, 1, 2), (1, 3, 4))
    state.choose_image(viewer, layer.unique_id)
    return layer


@pytest.fixture
def photograph(viewer):
    def add(name="eye"):
        pixels = np.random.default_rng(0).integers(0, 255, (8, 9, 3), np.uint8)
        return viewer.add_image(pixels, rgb=True, name=name)

    return add


@pytest.mark.parametrize(
    ("order", "axis", "shown"),
    [
        ((0, 1, 2), 0, 1),
        ((1, 2, 0), 1, 3),
        ((1, 0, 2), 1, 3),
        ((2, 0, 1), 2, 4),
        ((2, 1, 0), 2, 4),
    ],
)
@pytest.mark.parametrize("ndisplay", [2, 3])
def test_a_rolled_view_segments_what_it_shows(viewer, state, volume, order, axis, shown, ndisplay):
    viewer.dims.order = order
    viewer.dims.ndisplay = ndisplay
    state.follow_view(viewer)
    state.slices = replace(state.slices, part="current")
    request = state.request(viewer, Preferences())
    assert request.planes.axis == axis
    assert request.indices == ((shown,),)
    in_view = volume.data[(slice(None),) * axis + (shown,)]
    assert np.array_equal(request.planes.read(request.indices[0]), in_view)


def test_the_range_of_each_axis_outlasts_a_rolled_view(viewer, state, volume):
    state.slices = chosen = SliceChoice("range", 0, 1, 2)
    viewer.dims.order = (2, 0, 1)
    state.follow_view(viewer)
    assert state.slices == SliceChoice("range", 2) and state.compatibility.startswith("Checking")
    viewer.dims.order = (0, 1, 2)
    state.follow_view(viewer)
    assert state.slices == chosen


def test_an_image_opened_in_a_rolled_view_is_cut_as_shown(viewer, state):
    viewer.add_image(np.zeros((4, 5, 6)))
    viewer.dims.order = (1, 0, 2)
    state.choose_image(viewer, viewer.layers[0].unique_id)
    assert state.slices.axis == 1


def test_a_rolled_series_of_photographs_is_refused_for_a_slice(viewer, state):
    series = viewer.add_image(np.zeros((3, 8, 9, 3), np.uint8), rgb=True, name="series")
    state.choose_image(viewer, series.unique_id)
    state.slices = SliceChoice("current")
    assert state.request(viewer, Preferences()).indices == ((1,),)
    viewer.dims.order = (1, 0, 2)
    assert shown_axis(viewer, series) is None
    with pytest.raises(InputError, match="shows no slice of 'series'"):
        state.request(viewer, Preferences())


def test_a_layer_of_fewer_axes_than_the_viewer_is_cut_as_shown(viewer):
    flat, volume = viewer.add_image(np.zeros((5, 6))), viewer.add_image(np.zeros((4, 5, 6)))
    viewer.add_image(np.zeros((2, 4, 5, 6)))
    assert shown_axis(viewer, flat) == shown_axis(viewer, volume) == 0
    viewer.dims.order = (0, 2, 1, 3)
    assert (shown_axis(viewer, flat), shown_axis(viewer, volume)) == (None, 1)
    viewer.dims.order = (1, 2, 0, 3)
    assert shown_axis(viewer, volume) is None


def test_slices_are_all_the_current_one_or_a_range(viewer, state, volume):
    def chosen(choice):
        state.slices = choice
        return [index for (index,) in state.request(viewer, Preferences()).indices]

    assert chosen(SliceChoice()) == [1, 2, 3, 0]
    assert chosen(SliceChoice("current")) == [1]
    assert chosen(SliceChoice("range", 0, 2)) == [2, 3]
    assert chosen(SliceChoice("range", 2, 1, 3)) == [1, 2, 3]


def test_the_angle_belongs_to_the_layer_and_not_to_its_name(viewer, state, photograph):
    first = photograph()
    state.choose_image(viewer, first.unique_id)
    state.set_angle(45)
    first.name = "renamed"
    second = photograph()
    state.choose_image(viewer, second.unique_id)
    state.set_angle(None)
    state.choose_image(viewer, first.unique_id)
    assert state.angle == 45 and state.request(viewer, Preferences()).angle == 45
    state.choose_image(viewer, second.unique_id)
    assert state.angle is None


def test_the_angle_on_record_is_found_by_id_in_a_new_widget(viewer, state, photograph):
    first, other = photograph(), photograph()
    record = {"input": other.name, "input_id": str(first.unique_id), "angle_degrees": 50}
    viewer.add_labels(np.zeros((8, 9), int), metadata={"msankd": record})
    state.choose_image(viewer, other.unique_id)
    assert state.angle is None
    state.choose_image(viewer, first.unique_id)
    assert state.angle == 50


def test_the_camera_is_asked_for_photographs_only(viewer, state, photograph, volume):
    assert not state.asks_angle(viewer)
    state.set_info(FUNDUS)
    assert not state.asks_angle(viewer) and state.request(viewer, Preferences()).angle is None
    state.choose_image(viewer, photograph().unique_id)
    assert state.asks_angle(viewer)
    state.set_info(replace(FUNDUS, angle=None))
    assert not state.asks_angle(viewer)


def test_a_model_brings_its_threshold_unless_set_by_hand(state):
    state.set_info(FUNDUS)
    assert state.threshold == 0.4
    state.threshold, state.manual = 0.7, True
    state.set_info(FUNDUS)
    assert state.threshold == 0.7
    state.choose_model(Path("other.safetensors"))
    state.set_info(FUNDUS)
    assert state.threshold == 0.4 and not state.manual


def test_the_empty_text_goes_when_images_are_open(viewer, photograph):
    viewer.add_labels(np.zeros((4, 4), int))
    assert "No image is open" in empty_text(viewer)
    photograph()
    assert empty_text(viewer) == ""


def test_what_is_missing_is_named(viewer, photograph):
    state = SegmentState()
    with pytest.raises(InputError, match="No image is open"):
        state.request(viewer, Preferences())
    photograph()
    with pytest.raises(InputError, match="Choose an image"):
        state.request(viewer, Preferences())
    state.choose_image(viewer, viewer.layers[0].unique_id)
    with pytest.raises(InputError, match="Select a model"):
        state.request(viewer, Preferences())


def test_a_figure_is_marked_while_it_is_computed_anew():
    state = SegmentState(scores=Figure("Dice 0.8"))
    state.outdate_figures()
    assert state.scores.stale and state.scores.shown == "Dice 0.8 (updating…)"
    assert not state.volumes.stale and state.volumes.shown == ""


def test_figures_name_their_slices():
    assert format_volumes({"liver": 501.2}, 15, 78) == "liver 501 ml in 15 of 78 slices"
    assert format_volumes({"liver": 1482.3}, 78, 78) == "liver 1,482 ml"
    scores = Scores(0.9, 0.8, 1.0, "mm", 15, 78)
    assert "HD95 1.0 mm · 15 of 78 slices" in str(scores)
    assert "slices" not in str(replace(scores, planes=1, of=1))


def test_the_end_of_a_run_says_which_slices_there_are():
    stopped = end_message("ct liver", [(3,), (4,), (9,)], 78, 4)
    assert stopped == "Stopped: 'ct liver' has 3 of 78 slices (3–4, 9)."
    assert end_message("ct liver", [(0,), (1,)], 2, 4) == "✓ 'ct liver' is ready, in 4.0 s."
    assert end_message("eye vessel", [], 1, 4) == "Stopped: 'eye vessel' is incomplete."
    assert "2 of 6 slices." in end_message("series", [(0, 1), (1, 1)], 6, 4)
    assert span_text([1, 3, 5, 7, 9, 10]) == "1, 3, 5, …, 9–10"


def test_progress_is_a_share_and_the_time_left():
    assert str(Progress(2, 78, 0.25, 10)) == "2 of 78 slices · 30 s left"
    assert str(Progress(0, 1, 0.4, 0.1)) == "40%"


@pytest.mark.parametrize(
    ("values", "mask"),
    [
        ([0, 255], True),
        ([False, True], True),
        ([0.0, 1.0], True),
        ([0, 1, 2, 5], True),
        ([0, 90, 180, 255], False),
        ([0.1, 0.5, 0.9], False),
        ([7, 7], False),
    ],
)
def test_masks_among_images_are_known_by_their_values(viewer, values, mask):
    pixels = np.resize(np.array(values), (8, 9))
    assert is_mask_like(viewer.add_image(pixels, contrast_limits=(0, 1))) == mask


def test_what_the_plugin_made_is_no_image_to_segment(viewer):
    made = viewer.add_image(np.random.rand(8, 9), metadata={"msankd": {"model": "x"}})
    assert is_mask_like(made)


def dice(value):
    return ExpectedDice(value, value - 0.1, value + 0.1, value, extrapolated=value < 0.5)


def test_expected_dice_names_the_slices_to_check():
    good, bad = dice(0.8), dice(0.4)
    alone = {"liver": good}

    def text(whole, *slices):
        return expected_text(ResultQuality(whole, alone, dict(slices)))

    assert text(good) == "Expected Dice 0.80 (0.70–0.90)"
    assert text(bad).endswith("less sure than on any validation image. Check this one.")
    assert "Check slices 3–4: unlike" in text(good, ((2,), good), ((3,), bad), ((4,), bad))
    assert "Lowest in slice 2: 0.80" in text(good, ((2,), good), ((3,), dice(0.9)))
    assert "Check slices (1, 3), (2, 3): " in text(good, ((1, 3), bad), ((2, 3), bad))


def test_expected_dice_is_compared_with_the_training_camera():
    def text(relation):
        source = SourceComparison(relation, SourceDice(mean=0.78, low=0.7))
        return expected_text(ResultQuality(dice(0.6), {}, {}, source, "camera"))

    assert text("as").endswith("(0.50–0.70), as on the training camera")
    lower = "lower than on the training camera (0.78)"
    assert text("below").endswith(f"(0.50–0.70): check this one, {lower}")
    assert text("unknown").endswith("(0.50–0.70)")


def test_of_an_image_of_another_kind_nothing_is_expected():
    alien = replace(dice(0.9), low=0.0, high=1.0, foreign=True)
    sums = np.array([[10.0, 9.0, 10.0, 100.0]])
    quality = quality_of(alien, sums, None, ("background", "liver"))
    quality = replace(quality, slices={(0,): alien, (1,): dice(0.8)})
    assert expected_text(quality).startswith("Expected Dice cannot be told: unlike any validation")
    assert np.isnan(quality.features()["expected Dice"]).all()
    assert quality.record()["expected_dice"]["value"] is None
    assert quality.record()["expected_dice_of_classes"]["liver"]["foreign"]
    curve = slice_curve(quality, {}, (2,))
    assert np.isnan(curve.expected[0]) and curve.expected[1] == 0.8


def test_expected_dice_of_several_classes_is_listed():
    quality = ResultQuality(dice(0.7), {"liver": dice(0.8), "tumour": dice(0.6)})
    assert "\nliver 0.80 (0.70–0.90) · tumour 0.60 (0.50–0.70)" in expected_text(quality)
    assert quality.features()["expected Dice"][1:] == [0.8, 0.6]


def test_the_curve_has_expected_beside_real_dice():
    quality = ResultQuality(dice(0.8), {}, {(4,): dice(0.9), (2,): dice(0.7)})
    curve = slice_curve(quality, {(4,): 0.85}, (6,))
    assert curve.at == (2, 4) and curve.expected == (0.7, 0.9) and curve.dice[1] == 0.85
    assert np.isnan(curve.dice[0]) and curve.nearest(3.4) == (4,)
    assert slice_curve(ResultQuality(dice(0.8), {}), {}, ()) is None
    several = ResultQuality(dice(0.8), {}, {(0, 1): dice(0.9), (1, 0): dice(0.7)})
    assert slice_curve(several, {}, (2, 3)).at == (1, 3)
