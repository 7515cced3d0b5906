"""Scores of volumes compared with closed forms."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src_training.errors import InputError
from src_training.evaluation.volume_metrics import VOLUME_METRICS, score_volume

BINARY = ("background", "liver")


def ball(centre, radius, spacing=(1.0, 1.0, 1.0), shape=(64, 64, 64)):
    """Voxels whose centre lies in a ball, in mm."""
    grid = np.indices(shape, float)
    apart = sum((g * s - c) ** 2 for g, s, c in zip(grid, spacing, centre, strict=True))
    return (apart <= radius**2).astype(np.uint8)


def box(low, high, shape=(30, 30, 30)):
    volume = np.zeros(shape, np.uint8)
    volume[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = 1
    return volume


def test_labels_equal_to_the_mask_score_1():
    mask = ball((30, 30, 30), 12)
    expected = {"dice": 1, "voe": 0, "rvd": 0, "hd95": 0, "assd": 0}
    assert score_volume(mask, mask, (2, 1, 1), BINARY) == expected


def test_two_balls_overlap_by_two_caps():
    radius, apart = 20.0, 10.0
    found = score_volume(ball((32, 32, 27), radius), ball((32, 32, 37), radius), (1, 1, 1), BINARY)
    ball_volume = 4 / 3 * math.pi * radius**3
    lens = math.pi * (4 * radius + apart) * (2 * radius - apart) ** 2 / 12
    assert found["dice"] == pytest.approx(lens / ball_volume, abs=0.005)
    assert found["voe"] == pytest.approx(1 - lens / (2 * ball_volume - lens), abs=0.005)
    assert found["rvd"] == 0
    # At a polar angle t the surface of the other ball lies sqrt(r^2 + d^2 +- 2 r d cos t) - r off,
    # and cos t is evenly spread over a sphere.
    cosines = np.linspace(-1, 1, 20001)
    away = np.abs(np.sqrt(radius**2 + apart**2 + 2 * radius * apart * cosines) - radius)
    assert found["assd"] == pytest.approx(away.mean(), abs=0.3)
    assert found["hd95"] == pytest.approx(np.percentile(away, 95), abs=0.5)


def test_concentric_balls_are_apart_by_their_radii():
    spacing, shape, centre = (2.5, 0.8, 1.0), (26, 80, 64), (32, 32, 32)
    inner, outer = (ball(centre, r, spacing, shape) for r in (16, 22))
    found = score_volume(outer, inner, spacing, BINARY)
    assert found["rvd"] == pytest.approx((22 / 16) ** 3 - 1, rel=0.02)
    assert found["voe"] == pytest.approx(1 - (16 / 22) ** 3, rel=0.02)
    assert found["assd"] == pytest.approx(6, abs=0.5)
    assert found["hd95"] == pytest.approx(6, abs=1.5)
    assert score_volume(inner, outer, spacing, BINARY)["rvd"] < 0


@settings(deadline=None, max_examples=20)
@given(
    axis=st.integers(0, 2),
    shift=st.integers(1, 4),
    side=st.integers(6, 12),
    spacing=st.tuples(*[st.floats(0.3, 5)] * 3),
)
def test_a_cube_shifted_along_an_axis(axis, shift, side, spacing):
    low = [8, 8, 8]
    moved = list(low)
    moved[axis] += shift
    mask, labels = (box(at, [a + side for a in at]) for at in (low, moved))
    found = score_volume(labels, mask, spacing, BINARY)
    assert found["dice"] == pytest.approx((side - shift) / side)
    assert found["voe"] == pytest.approx(2 * shift / (side + shift))
    assert found["rvd"] == 0
    # The faces across the axis, more than a twentieth of either surface, are a shift apart.
    assert found["hd95"] <= shift * spacing[axis] + 1e-4
    assert 0 < found["assd"] < found["hd95"] + 1e-6


def test_a_cube_shifted_along_its_coarse_axis_is_that_far_off():
    mask, labels = box((8, 8, 8), (16, 16, 16)), box((10, 8, 8), (18, 16, 16))
    fine, coarse = (score_volume(labels, mask, (z, 10, 10), BINARY) for z in (1, 5))
    assert fine["hd95"] == pytest.approx(2) and coarse["hd95"] == pytest.approx(10)
    assert coarse["assd"] == pytest.approx(5 * fine["assd"])


def test_half_a_volume_too_much_is_an_rvd_of_a_half():
    found = score_volume(box((0, 0, 0), (3, 10, 10)), box((0, 0, 0), (2, 10, 10)), (1,) * 3, BINARY)
    assert found["rvd"] == pytest.approx(0.5)


def test_undefined_scores_are_nan():
    nothing, something = np.zeros((5, 5, 5), np.uint8), box((1, 1, 1), (3, 3, 3), (5, 5, 5))
    neither = score_volume(nothing, nothing, (1,) * 3, BINARY)
    assert (neither["dice"], neither["voe"]) == (1, 0)
    assert all(math.isnan(neither[name]) for name in ("rvd", "hd95", "assd"))
    missed = score_volume(nothing, something, (1,) * 3, BINARY)
    assert (missed["dice"], missed["voe"], missed["rvd"]) == (0, 1, -1)
    assert math.isnan(missed["hd95"]) and math.isnan(missed["assd"])
    assert math.isnan(score_volume(something, nothing, (1,) * 3, BINARY)["rvd"])


def test_each_class_has_scores_and_enters_the_mean():
    classes = ("background", "liver", "kidney")
    mask = box((0, 0, 0), (4, 4, 4)) + 2 * box((10, 10, 10), (14, 14, 14))
    labels = box((0, 0, 0), (4, 4, 4)) + 2 * box((12, 10, 10), (16, 14, 14))
    found = score_volume(labels, mask, (1,) * 3, classes)
    assert set(found) == {f"{m}{c}" for m in VOLUME_METRICS for c in ("", "_liver", "_kidney")}
    assert (found["dice_liver"], found["dice_kidney"], found["dice"]) == (1, 0.5, 0.75)
    assert found["assd_liver"] == 0 and found["assd"] == found["assd_kidney"] / 2


@pytest.mark.parametrize(
    ("shape", "spacing", "sentence"),
    [((4, 4, 5), (1, 1, 1), "of one shape"), ((4, 4, 4), (0, 1, 1), "above 0")],
)
def test_volumes_that_do_not_fit_are_refused(shape, spacing, sentence):
    with pytest.raises(InputError, match=sentence):
        score_volume(np.zeros((4, 4, 4), np.uint8), np.zeros(shape, np.uint8), spacing, BINARY)
