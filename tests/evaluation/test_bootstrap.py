"""Intervals of means by a bootstrap that draws patients with all their images."""

import math

import pytest

from src_training.evaluation.bootstrap import bootstrap_by_patient, count_patients


def test_all_slices_of_a_patient_are_drawn_together():
    slices = {f"p{p}_z{i:03}": dice for p, dice in enumerate((0.2, 0.9)) for i in range(9)}
    found = bootstrap_by_patient([slices])
    assert found.value == pytest.approx(0.55)
    # Every fourth draw has the one patient twice, every fourth the other.
    assert (found.low, found.high) == pytest.approx((0.2, 0.9))
    independent = {f"case-{i}": dice for i, dice in enumerate(slices.values())}
    assert bootstrap_by_patient([independent]).low > 0.3


def test_images_weigh_alike_whatever_their_patient():
    found = bootstrap_by_patient([{"a1_z000": 0.0, "a2_z000": 1.0, "a2_z001": 1.0}])
    assert found.value == pytest.approx(2 / 3) and found.low == 0 and found.high == 1


def test_domains_weigh_alike_whatever_their_size():
    many, few = {f"case-{i}": 0.5 for i in range(9)}, {"a": 0.9, "b": 0.9}
    found = bootstrap_by_patient([many, few])
    assert (found.value, found.low, found.high) == pytest.approx((0.7, 0.7, 0.7))


def test_one_patient_has_a_mean_without_interval():
    images = {"p1_z000": 0.5, "p1_z001": 0.7}
    found = bootstrap_by_patient([images])
    assert found.value == pytest.approx(0.6)
    assert math.isnan(found.low) and math.isnan(found.high)
    assert math.isnan(bootstrap_by_patient([{"a": 0.1, "b": 0.2}, images]).low)


def test_two_eyes_of_a_patient_are_counted_once():
    assert count_patients(["Image_01L", "Image_01R", "Image_02L", "lesion"]) == 3
