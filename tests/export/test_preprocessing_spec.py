"""The description of preprocessing is exact enough to implement it."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage
from skimage.exposure import equalize_adapthist
from skimage.filters import threshold_otsu

from src_training.data.phantom.camera import fundus_phantom
from src_training.data.preprocessing import (
    FundusPreprocessing,
    IntensityPreprocessing,
    WindowPreprocessing,
)
from src_training.export.preprocessing_spec import postprocessing_text, preprocessing_text


def bilinear(maps, size):
    return F.interpolate(torch.from_numpy(maps)[None, None], size, mode="bilinear", antialias=True)[
        0, 0
    ].numpy()


def test_the_text_for_fundus_gives_the_networks_input():
    """Implementation of the eight numbered steps, independent of `Preprocessing`."""
    image = fundus_phantom(3, 160).image.astype(np.float32)  # 1
    smooth = ndimage.gaussian_filter(image.max(-1), sigma=2)  # 2
    bright = smooth > smooth.min() + 0.35 * (threshold_otsu(smooth) - smooth.min())
    assert sum([bright[0, 0], bright[0, -1], bright[-1, 0], bright[-1, -1]]) < 2
    parts, _ = ndimage.label(bright)
    seen = ndimage.binary_fill_holes(parts == 1 + np.bincount(parts.ravel())[1:].argmax())
    assert seen.mean() > 0.2
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))  # 3
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    green, seen = image[..., 1][box], seen[box].astype(np.float32)
    scale = 96 / max(green.shape)  # 4
    size = round(green.shape[0] * scale), round(green.shape[1] * scale)
    green, seen = bilinear(np.ascontiguousarray(green), size), bilinear(seen, size) > 0.5
    inner = ndimage.binary_erosion(seen, iterations=3, border_value=1)  # 5
    nearest = ndimage.distance_transform_edt(~inner, return_indices=True)[1]
    green = green[tuple(nearest)]
    green = (green - green.min()) / (green.max() - green.min())  # 6
    green = equalize_adapthist(green, kernel_size=12, clip_limit=0.01)  # 7
    # 64 pixels for 30 degrees, and half as many again for 45.
    learnt = FundusPreprocessing(diameter=64, angle=30)
    for how in (FundusPreprocessing(diameter=96), learnt.for_camera(45)):
        expected = how.prepare(fundus_phantom(3, 160).image).pixels
        np.testing.assert_allclose(np.where(seen, green, 0), expected[0], atol=1e-5)  # 8
    assert "kernel_size=12" in preprocessing_text(FundusPreprocessing(diameter=96))
    assert "spans 30 degrees; where it spans x, x / 30 times as many" in preprocessing_text(learnt)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("percentiles", [(0, 100), (1, 99), (0.5, 100)])
def test_the_text_for_intensities_gives_the_networks_input(percentiles, channels):
    image = np.random.default_rng(0).integers(0, 4000, (20, 30, 3)).astype(np.float32)
    low, high = np.percentile(image, percentiles)
    scaled = np.clip((image - low) / (high - low), 0, 1)
    weights = np.eye(3) if channels == 3 else np.array([[0.299], [0.587], [0.114]])
    preprocessing = IntensityPreprocessing(percentiles=percentiles, channels=channels)
    expected = preprocessing.prepare(image).pixels
    np.testing.assert_allclose((scaled @ weights).transpose(2, 0, 1), expected, atol=1e-6)
    text = preprocessing_text(preprocessing)
    ends = {0: "the smallest value", 100: "the largest"}
    assert all(ends.get(end, f"percentile {end}") in text for end in percentiles)
    assert ("Average colours" in text) == (channels == 1)


def test_the_text_for_slices_gives_the_networks_input():
    slices = np.random.default_rng(0).integers(-1000, 1000, (60, 40, 3)).astype(np.float32)
    preprocessing = WindowPreprocessing(window="liver", neighbours=3, side=32)
    text = preprocessing_text(preprocessing)
    for part in ("-60 HU becomes 0", "140 HU becomes 1", "(1, 3, h, w)", "has 32 pixels"):
        assert part in text
    scaled = torch.from_numpy(np.clip((slices + 60) / 200, 0, 1).transpose(2, 0, 1))[None]
    resized = F.interpolate(scaled, (32, 21), mode="bilinear", antialias=True)[0]
    np.testing.assert_allclose(preprocessing.prepare(slices).pixels, resized, atol=1e-6)


def test_the_text_on_labels_states_what_only_the_predictor_does(unpooling):
    text = postprocessing_text(unpooling.card)
    assert "probability is 0.5 or more." in text and "mixes in" not in text
    card = unpooling.card.model_copy(update={"per_image_threshold": True, "bn_mixing": 0.25})
    text = postprocessing_text(card)
    assert "or from a threshold found for each image" in text and "with a share of 0.25" in text
