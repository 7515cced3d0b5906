"""Means of a comparison with intervals over patients."""

import math

import pytest

from src_training.comparison.scores import UNSEEN, counted, estimates


def test_few_patients_are_named_in_a_sentence():
    slices = {
        f"p{patient}_z{i:03}": dice for patient, dice in enumerate((0.2, 0.9)) for i in range(9)
    }
    found = estimates({"CT": slices, "one": {"p1_z000": 0.5, "p1_z001": 0.7}}, ["CT"])
    assert found["CT"].value == pytest.approx(0.55)
    # Every fourth draw has the one patient twice, every fourth the other.
    assert (found["CT"].low, found["CT"].high) == pytest.approx((0.2, 0.9))
    assert found["one"].value == pytest.approx(0.6) and math.isnan(found["one"].low)
    assert counted({"CT": slices}).startswith("Images: CT 18 (patients: 2). So few as of CT")
    assert math.isnan(estimates({"CT": slices, "one": {"p1": 0.5}}, ["CT", "one"])[UNSEEN].low)
    assert "Of the one patient of one none is known" in counted({"CT": slices, "one": {"p1": 0.5}})
