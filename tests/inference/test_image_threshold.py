"""The image threshold maximises expected Dice."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from src_training.inference.image_threshold import (
    HIGHEST,
    LOWEST,
    STEPS,
    expected_dice_threshold,
    quantise,
)


def dice(found, mask):
    return 2 * (found & mask).sum() / (found.sum() + mask.sum())


def vessels(seed, faintness=1.0):
    """Calibrated probabilities (H, W), and a mask that was drawn from them."""
    random = np.random.default_rng(seed)
    probabilities = random.beta(0.15, 0.9, (300, 300)) * faintness
    return probabilities, random.random((300, 300)) < probabilities


@given(arrays(np.uint8, (6, 7), elements=st.integers(0, STEPS)))
def test_no_other_threshold_has_a_better_expected_dice(steps):
    probability = np.where(steps > 0, (steps + 0.5) / STEPS, 0.0).clip(0, 1)
    probability[steps == STEPS] = 1

    def expected(threshold):
        above = steps >= round(threshold * STEPS)
        overlap, size = 0.0, 0.0
        for pixel, found in zip(probability.ravel(), above.ravel(), strict=True):
            overlap += 2 * pixel * found
            size += pixel + found
        return overlap / size if size > 1 else overlap

    percents = range(round(100 * LOWEST), round(100 * HIGHEST) + 1)
    best = max(expected(percent / 100) for percent in percents)
    assert expected(expected_dice_threshold(steps)) == pytest.approx(best, abs=1e-9)


@pytest.mark.parametrize("faintness", [1.0, 0.7, 0.45])
def test_it_is_nearly_the_threshold_the_mask_would_choose(faintness):
    probabilities, mask = vessels(0, faintness)
    own = dice(probabilities >= expected_dice_threshold(quantise(probabilities)), mask)
    best = max(dice(probabilities >= t, mask) for t in np.arange(LOWEST, HIGHEST, 0.01))
    assert own > best - 0.005


def test_a_fainter_image_has_a_lower_threshold():
    found = [
        expected_dice_threshold(quantise(vessels(1, faintness)[0])) for faintness in (1, 0.7, 0.5)
    ]
    assert found == sorted(found, reverse=True) and found[0] > found[-1]


@pytest.mark.parametrize("guess", [0.0, 0.05, 0.19])
def test_faint_probabilities_are_never_foreground(guess):
    probabilities = np.full((20, 20), guess)
    assert not (probabilities >= expected_dice_threshold(quantise(probabilities))).any()


def test_rounding_leaves_the_steps_whole():
    percents = np.arange(101) / 100
    assert quantise(percents).tolist() == list(range(0, STEPS + 1, 2))
    assert quantise(np.float32([1.0000001, -1e-9])).tolist() == [STEPS, 0]
