import os
from pathlib import Path

import numpy as np
import pytest

from src_training.inference.input_checks import circularity_rmse, input_warnings
from src_training.inference.predictor import Predictor
from src_training.io.images import read_image


def ellipse(height, width, ratio=1.0, size=400):
    y, x = np.ogrid[:size, :size]
    return np.hypot(y - height, (x - width) / ratio) < 150


def photograph(disc):
    return (disc[..., None] * np.array([180, 90, 40])).astype(np.uint8)


@pytest.fixture
def fundus_card(tiny_model):
    return tiny_model("fundus", diameter=320).card


@pytest.fixture
def grey_card(tiny_model):
    return tiny_model("intensity").card


def test_a_fundus_photograph_raises_no_doubt(fundus_card):
    assert input_warnings(fundus_card, photograph(ellipse(200, 200))) == []


def test_a_disc_cut_above_and_below_is_still_a_disc():
    disc = ellipse(200, 200)
    disc[:90], disc[310:] = False, False
    assert circularity_rmse(disc) < 0.02 < 0.045 < circularity_rmse(ellipse(200, 200, ratio=1.3))


@pytest.mark.parametrize(
    "image",
    [
        np.random.default_rng(0).integers(0, 255, (200, 300)).astype(np.uint8),
        photograph(ellipse(200, 200, ratio=1.3))[..., 0],
    ],
    ids=["noise without a frame", "an elliptic body"],
)
def test_an_image_without_a_disc_is_doubted_by_a_fundus_model(fundus_card, image):
    assert any("no bright disc" in doubt for doubt in input_warnings(fundus_card, image))


def test_a_green_disc_is_doubted_by_a_fundus_model(fundus_card):
    green = photograph(ellipse(200, 200))[..., [1, 0, 2]]
    assert any("reddish" in doubt for doubt in input_warnings(fundus_card, green))


def test_a_small_field_of_view_is_doubted(fundus_card):
    small = photograph(ellipse(200, 200))[::3, ::3]
    assert any("pixels across" in doubt for doubt in input_warnings(fundus_card, small))


def test_colours_and_sizes_are_held_against_the_training(grey_card, tiny_model):
    grey = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
    assert input_warnings(grey_card, grey) == []
    assert any("averaged" in d for d in input_warnings(grey_card, np.stack([grey] * 3, -1)))
    assert any(
        "size it has not seen" in d for d in input_warnings(grey_card, np.tile(grey, (1, 9)))
    )


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((4, 5, 6, 7)), "shape"),
        (np.zeros((9, 9, 5)), "shape"),
        (np.zeros((9, 9)), "nothing to segment"),
        (np.full((9, 9), np.nan), "NaN"),
    ],
)
def test_what_cannot_be_segmented_is_said_first(grey_card, image, words):
    (doubt,) = input_warnings(grey_card, image)
    assert words in doubt


@pytest.mark.parametrize(
    ("window", "values", "doubted"),
    [
        ("liver", (-1024, 1200), False),
        ("liver", (0, 255), True),
        ("liver", (0.0, 1.0), True),
        ((0, 255), (0, 255), False),
        ((0, 255), (-1000, 900), False),
        ((0, 255), (0, 3000), True),
    ],
)
def test_values_that_may_be_no_hu_are_told_beside_the_window(tiny_model, window, values, doubted):
    card = tiny_model("window", window=window).card
    image = np.linspace(*values, 64 * 64).reshape(64, 64)
    words = f"expects Hounsfield units (HU) from {card.preprocessing.window[0]:g} to"
    assert any(words in doubt for doubt in input_warnings(card, image)) is doubted
    if values == (0, 255) and doubted:
        assert "this image has values from 0 to 255" in input_warnings(card, image)[0]


def test_a_single_slice_is_doubted_by_a_model_of_neighbours(tiny_model):
    card = tiny_model("window", window=(0, 63), neighbours=3).card
    image = np.arange(64.0 * 64).reshape(64, 64) % 64
    assert any("reads 3 neighbouring slices" in doubt for doubt in input_warnings(card, image))
    assert input_warnings(card, np.stack([image] * 3, -1)) == []
    assert any("has shape" in doubt for doubt in input_warnings(card, np.stack([image] * 4, -1)))


def test_the_predictor_asks_the_card(tiny_model):
    assert Predictor(tiny_model(), "cpu").check(np.zeros((4, 4)))


@pytest.mark.real
@pytest.mark.parametrize(
    ("folder", "doubted"),
    [("retina/chasedb1", False), ("retina/drive", False), ("liver/chaos_ct_slices", True)],
)
def test_real_photographs_raise_no_doubt_and_real_slices_do(fundus_card, folder, doubted):
    if "MSANKD_DATA" not in os.environ:
        pytest.skip("needs the real images named by MSANKD_DATA")
    for path in sorted((Path(os.environ["MSANKD_DATA"]) / folder / "images").iterdir())[:6]:
        assert bool(input_warnings(fundus_card, read_image(path))) is doubted
