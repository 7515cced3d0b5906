"""Conversion of image layers with masks to Labels layers."""

import dask.array as da
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels

from napari_msankd.layers import as_labels
from src_training.errors import InputError

SIDE = (12, 16)


def square(value, dtype=np.uint8):
    mask = np.zeros(SIDE, dtype)
    mask[2:6, 3:9] = value
    return mask


@pytest.mark.parametrize(
    ("pixels", "options"),
    [
        (square(255), {}),
        (square(1, bool), {}),
        (square(0.7, float) - 0.2, {}),
        (np.repeat(square(255)[..., None], 3, -1), {"rgb": True}),
        (da.from_array(square(255)), {}),
        ([square(9), square(9)[::2, ::2]], {"multiscale": True}),
    ],
    ids=["255", "bool", "two fractions", "grey RGB", "lazy", "pyramid"],
)
def test_of_two_values_the_larger_is_label_1(pixels, options):
    viewer = ViewerModel()
    layer = viewer.add_image(pixels, name="mask", **options)
    labels = as_labels(viewer, layer)
    assert np.array_equal(labels.data, square(1))


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32])
def test_several_whole_numbers_stay_as_they_are(dtype):
    viewer = ViewerModel()
    pixels = square(2, dtype)
    pixels[8:10] = 7
    labels = as_labels(viewer, viewer.add_image(pixels))
    assert np.array_equal(labels.data, pixels) and labels.data.dtype == np.uint8


def test_the_labels_take_the_place_of_the_image():
    viewer = ViewerModel()
    place = {"scale": (2, 3), "translate": (5, 1), "units": "mm", "metadata": {"source": "a.nii"}}
    viewer.add_image(np.zeros(SIDE), name="under")
    layer = viewer.add_image(square(1), name="mask", visible=False, **place)
    viewer.add_image(np.zeros(SIDE), name="over")
    labels = as_labels(viewer, layer)
    assert isinstance(labels, Labels) and not labels.visible
    assert [each.name for each in viewer.layers] == ["under", "mask", "over"]
    assert tuple(labels.scale) == (2, 3) and tuple(labels.translate) == (5, 1)
    assert labels.metadata == {"source": "a.nii"} and str(labels.units[0]) == "millimeter"


RAMP = np.arange(12 * 16).reshape(SIDE)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (RAMP / 7, "'scan' holds 0 to 27.2857, 192 different values.*expected labels"),
        (RAMP - 90, "'scan' holds -90 to 101, 192 different values"),
        (RAMP * 500, "'scan' holds 0 to 95500, 192 different values"),
        (np.ones(SIDE), "'scan' holds the value 1 only"),
        (np.stack([square(9), square(1)[::-1], square(0)], -1), "'scan' is a mask of 3 colors"),
    ],
)
def test_anything_else_is_refused_and_stays(pixels, message):
    viewer = ViewerModel()
    layer = viewer.add_image(pixels, name="scan", rgb=pixels.ndim == 3)
    with pytest.raises(InputError, match=message):
        as_labels(viewer, layer)
    assert layer in viewer.layers


def test_noise_and_grey_edges_are_divided_and_said():
    viewer = ViewerModel()
    pixels = square(255)
    pixels[2:6, 2], pixels[1, 3:9], pixels[0, 0] = 90, 40, 3
    labels = as_labels(viewer, viewer.add_image(pixels, name="mask"))
    assert np.array_equal(labels.data, square(1))
    assert "above 127 is foreground" in labels.metadata["mask_notes"][0]


def test_the_alpha_channel_may_hold_the_labels():
    viewer = ViewerModel()
    pixels = np.full((*SIDE, 4), 255, np.uint8)
    pixels[..., 3] = square(255)
    labels = as_labels(viewer, viewer.add_image(pixels, rgb=True))
    assert np.array_equal(labels.data, square(1))
    assert "alpha channel" in labels.metadata["mask_notes"][0]
