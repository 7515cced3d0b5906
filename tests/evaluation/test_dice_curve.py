"""The Dice curve compared with `score` at each threshold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from src_training.evaluation.dice_curve import THRESHOLDS, dice_curve
from src_training.evaluation.metrics import score

SHAPE = (5, 6)


@given(
    arrays(np.int64, SHAPE, elements=st.integers(0, 200)),
    arrays(np.uint8, SHAPE, elements=st.integers(0, 1)),
    arrays(np.bool_, SHAPE),
)
def test_the_curve_is_the_dice_at_every_threshold(steps, mask, seen):
    # Halfway between two steps, so that rounding errors do not matter.
    foreground = ((steps + 0.5) / 200.5).astype(np.float32)
    maps = np.stack([1 - foreground, foreground])
    found = dice_curve(maps, mask, seen)
    for threshold, dice in zip(THRESHOLDS, found, strict=True):
        clear = np.abs(foreground - threshold)[seen] > 0.006
        if not clear.all() or not seen.any():
            continue
        if np.isnan(dice):
            assert not mask[seen].any() and not (foreground >= threshold)[seen].any()
        else:
            expected = score(maps, mask, seen, float(threshold))["dice"]
            assert dice == pytest.approx(expected, abs=1e-6)


def test_more_classes_have_one_dice_at_every_threshold():
    labels, mask = np.array([[0, 1], [2, 2]]), np.array([[0, 1], [2, 0]], np.uint8)
    maps = np.stack([labels == k for k in range(3)]).astype(np.float32)
    assert dice_curve(maps, mask) == pytest.approx([(1 + 2 / 3) / 2] * len(THRESHOLDS))


@pytest.mark.parametrize("classes", [2, 3])
def test_an_empty_prediction_of_an_empty_mask_is_nan(classes):
    maps = np.zeros((classes, 4, 4), np.float32)
    maps[0] = 1
    assert np.isnan(dice_curve(maps, np.zeros((4, 4), np.uint8))).all()
