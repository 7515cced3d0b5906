"""Means of a comparison with intervals over patients."""

import math

import pytest

from src_training.comparison.scores import UNSEEN_MEAN, count_images, estimate_means


def test_few_patients_are_named_in_a_sentence():
    slices = {
        f"p{patient}_z{i:03}": dice for patient, dice in enumerate((0.2, 0.9)) for i in range(9)
    }
    found = estimate_means(
        {"CT": slices, "one": {"p1_z000": 0.5, "p1_z001": 0.7}}, {UNSEEN_MEAN: ["CT"]}
    )
    assert found["CT"].value == pytest.approx(0.55)
    # Every fourth draw has the one patient twice, every fourth the other.
    assert (found["CT"].low, found["CT"].high) == pytest.approx((0.2, 0.9))
    assert found["one"].value == pytest.approx(0.6) and math.isnan(found["one"].low)
    assert count_images({"CT": slices}).startswith("Images: CT 18 (patients: 2). CT: too few")
    assert math.isnan(
        estimate_means({"CT": slices, "one": {"p1": 0.5}}, {UNSEEN_MEAN: ["CT", "one"]})[
            UNSEEN_MEAN
        ].low
    )
    assert "one: one patient, no interval" in count_images({"CT": slices, "one": {"p1": 0.5}})
