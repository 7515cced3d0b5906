"""A split is by patient if there are enough patients, and a note is given if not."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src_training.data.domain import Domain
from src_training.data.split import patient_of, split, split_note
from src_training.errors import InputError

REAL = os.environ.get("MSANKD_DATA")
needs_real = pytest.mark.skipif(not REAL, reason="MSANKD_DATA does not name the real images")


def domain(*names: str, empty: tuple[str, ...] = ()) -> Domain:
    """Tiny cases with these names; masks of those in `empty` are background."""
    masks = [np.full((2, 2), name not in empty, np.uint8) for name in names]
    return Domain.from_arrays("eyes", [np.zeros((2, 2))] * len(names), masks, names=names)


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("Image_01L", "Image_01"),
        ("Image_01R", "Image_01"),
        ("12_left", "12"),
        ("7-OD", "7"),
        ("10001_95", "10001"),
        ("P13_T1_00028", "P13_T1"),
        ("malignant_1", "malignant_1"),
        ("im0001", "im0001"),
        ("01", "01"),
    ],
)
def test_names_tell_patients(name: str, patient: str) -> None:
    assert patient_of(name) == patient


@settings(deadline=None, max_examples=40)
@given(
    slices=st.lists(st.integers(1, 6), min_size=2, max_size=12),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 5),
)
def test_a_split_parts_the_domain_and_no_patient(
    slices: list[int], fraction: float, seed: int
) -> None:
    names = [f"{patient:03d}_{i}" for patient, count in enumerate(slices) for i in range(count)]
    domain = Domain.from_arrays("ct", [np.zeros((2, 2))] * len(names), names=names)
    train, validation = split(domain, fraction, seed)
    assert sorted(train.names + validation.names) == sorted(names)
    assert not {patient_of(n) for n in train.names} & {patient_of(n) for n in validation.names}
    assert len(train) and len(validation)
    again = split(domain, fraction, seed)
    assert (again[0].names, again[1].names) == (train.names, validation.names)
    if 1 <= fraction * len(names) <= len(names) - 6:
        assert abs(len(validation) - fraction * len(names)) <= max(slices)


@pytest.mark.parametrize("seed", range(5))
def test_a_patient_of_one_image_validates_before_one_of_two(seed: int) -> None:
    train, validation = split(domain("01L", "01R", "02L"), 0.2, seed)
    assert (train.names, validation.names) == (("01L", "01R"), ("02L",))
    assert split_note(train, validation) == ""


def test_images_of_one_patient_are_split_by_image_with_a_note() -> None:
    train, validation = split(domain("01L", "01R"), 0.5, 0)
    assert sorted(train.names + validation.names) == ["01L", "01R"]
    assert "images of 01 are in training and in validation" in split_note(train, validation)


def test_one_image_is_on_both_sides_with_a_note() -> None:
    train, validation = split(domain("photo"), 0.2, 0)
    assert train.names == validation.names == ("photo",)
    assert "1 image that the networks learn from" in split_note(train, validation)


@pytest.mark.parametrize("seed", range(5))
def test_both_sides_have_foreground(seed: int) -> None:
    of = domain("a", "b", "c", "d", empty=("a", "d"))
    for side in split(of, 0.5, seed):
        assert set(side.names) & {"b", "c"}


def test_with_one_painted_image_all_is_on_both_sides() -> None:
    of = domain("a", "b", "c", empty=("a", "c"))
    train, validation = split(of, 0.3, 0)
    assert train.names == validation.names == of.names


def test_with_one_painted_patient_its_images_are_split() -> None:
    train, validation = split(domain("01L", "01R", "02L", empty=("02L",)), 0.3, 0)
    assert len({"01L", "01R"} & set(train.names)) == 1
    assert len({"01L", "01R"} & set(validation.names)) == 1


@pytest.mark.parametrize("fraction", [0, 1, -0.1])
def test_a_fraction_that_leaves_a_side_empty_is_refused(fraction: float) -> None:
    with pytest.raises(InputError, match=f"fraction is {fraction:g}; expected"):
        split(domain("a", "b"), fraction, 0)


@needs_real
@pytest.mark.real
def test_both_eyes_of_a_chase_child_stay_together() -> None:
    domain = Domain.from_folder(Path(str(REAL)) / "retina" / "chasedb1")
    train, validation = split(domain.subset(domain.names[:20]), 0.2, 0)
    assert (len(train), len(validation)) == (16, 4)
    assert len({name[:-1] for name in validation.names}) == 2
