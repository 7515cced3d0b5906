import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src_training.errors import InputError
from src_training.explore.fsd import frechet_distance
from src_training.explore.fsd_influence import leave_one_out_influence
from src_training.explore.fsd_matrix import MASKS
from tests.explore.tables import table


def sampled(seed, d, source, images):
    """A source, and a target with `images[i]` patches of image i, each image randomly shifted."""
    random = np.random.default_rng(seed)
    mixing = random.normal(size=(d, d))
    a = random.normal(size=(source, d)) @ mixing
    parts = {
        f"{i}": (random.normal(size=(count, d)) + 2 * random.normal(size=d)) @ mixing + 1
        for i, count in enumerate(images)
    }
    return a, parts


def reference(a, parts, left_out):
    """FSD of the domain, and its change without an image, with the estimator of the domain."""
    whole = frechet_distance(a, np.concatenate([*parts.values()]), interval=False)
    rest = np.concatenate([rows for name, rows in parts.items() if name != left_out])
    without = frechet_distance(a, rest, whole.covariance, interval=False)
    return whole.value, whole.value - without.value


def domains(a, parts):
    return table(("S", "s", a), *(("T", name, rows) for name, rows in parts.items()))


@settings(max_examples=20)
@given(
    st.integers(0, 1000),
    st.sampled_from([1, 2, 6, 40]),
    st.integers(2, 30),
    st.lists(st.integers(1, 9), min_size=3, max_size=6),
)
def test_influence_is_the_distance_that_goes_with_the_image(seed, d, source, images):
    a, parts = sampled(seed, d, source, images)
    found = leave_one_out_influence(domains(a, parts), "S", "T")
    assert sorted(each.case for each in found) == sorted(parts)
    assert [each.value for each in found] == sorted((each.value for each in found), reverse=True)
    for each in found:
        whole, expected = reference(a, parts, each.case)
        assert each.value == pytest.approx(expected, abs=1e-6 * (1 + whole))
        assert each.share * whole == pytest.approx(each.value, abs=1e-6 * (1 + whole))


@pytest.mark.parametrize("d", [3, 60])
def test_both_estimators_are_exact(d):
    a, parts = sampled(1, d, 80, [20] * 5)
    estimator = frechet_distance(a, np.concatenate([*parts.values()]), interval=False).covariance
    assert estimator == ("empirical" if d == 3 else "ledoit_wolf")
    for each in leave_one_out_influence(domains(a, parts), "S", "T"):
        whole, expected = reference(a, parts, each.case)
        assert each.value == pytest.approx(expected, abs=1e-8 * whole)


def test_outliers_come_first_and_views_do_not_count():
    random = np.random.default_rng(0)
    rows = [random.normal(size=(10, 4)) for _ in range(4)]
    found = leave_one_out_influence(
        table(
            ("S", "s", rows[0]),
            ("T", "near", rows[1]),
            ("T", "far", rows[2] + 5),
            ("T", "also near", rows[3]),
            ("T", "near", rows[3] + 1000, 1, "image"),
        ),
        "S",
        "T",
    )
    assert found[0].case == "far" and 0 < found[0].share <= 1
    assert all(each.value < 0 for each in found[1:])


def test_the_masks_may_be_the_source():
    random = np.random.default_rng(0)
    a, b = random.normal(size=(12, 3)), random.normal(size=(12, 3))
    found = leave_one_out_influence(
        table(("T", "x", a[:6]), ("T", "y", a[6:]), ("T", "x", b, 0, "mask")), MASKS, "T"
    )
    expected = leave_one_out_influence(
        table(("T", "x", a[:6]), ("T", "y", a[6:]), ("S", "s", b)), "S", "T"
    )
    assert found == expected


def test_the_only_image_has_no_influence():
    [only] = leave_one_out_influence(
        table(("S", "s", np.eye(4)), ("T", "t", np.eye(4) + 1)), "S", "T"
    )
    assert math.isnan(only.value) and math.isnan(only.share)


def test_an_image_that_leaves_one_vector_comes_last():
    random = np.random.default_rng(0)
    parts = [("T", "many", random.normal(size=(5, 2))), ("T", "one", random.normal(size=(1, 2)))]
    found = leave_one_out_influence(table(("S", "s", random.normal(size=(5, 2))), *parts), "S", "T")
    assert [each.case for each in found] == ["one", "many"] and math.isnan(found[1].value)


def test_a_domain_against_itself_has_no_shares():
    rows = np.random.default_rng(0).normal(size=(10, 2))
    found = leave_one_out_influence(table(("T", "x", rows[:5]), ("T", "y", rows[5:])), "T", "T")
    assert all(np.isfinite((each.value, each.share)).all() for each in found)


def test_too_few_vectors_are_refused():
    rows = table(("S", "s", np.eye(3)), ("T", "t", [[1, 2, 3]]))
    with pytest.raises(InputError, match="T has 1 vector; expected at least two"):
        leave_one_out_influence(rows, "S", "T")
    with pytest.raises(InputError, match="none has 0 vectors"):
        leave_one_out_influence(rows, "none", "S")
