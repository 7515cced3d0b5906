import numpy as np
import pytest

from src_training.errors import InputError
from src_training.explore.fsd import frechet_distance
from src_training.explore.fsd_matrix import (
    MASKS,
    dice_by_domain,
    dice_correlation,
    distance_matrix,
    vector_sets,
)
from tests.explore.tables import table

RANDOM = np.random.default_rng(0)


def normal(count, shift=0.0, d=3):
    return RANDOM.normal(size=(count, d)) + shift


def test_every_cell_is_the_fsd_of_its_two_domains():
    a, b, c = normal(40), normal(30, 1), normal(50, 2)
    found = distance_matrix(table(("A", "1", a), ("B", "1", b), ("C", "1", c)))
    assert found.names == ("A", "B", "C") and found.warnings == []
    assert found.between("A", "C") == frechet_distance(a, c)
    back = found.between("C", "A")
    assert (back.value, back.low, back.high) == pytest.approx(
        (found.between("A", "C").value, found.between("A", "C").low, found.between("A", "C").high)
    )
    assert (back.n_a, back.n_b) == (50, 40)
    assert all(found.between(name, name).value == 0 for name in found.names)


def test_views_are_left_out_and_masks_are_one_set():
    a, b, masks = normal(30), normal(30, 1), normal(60, 5)
    found = distance_matrix(
        table(
            ("A", "1", a),
            ("A", "1", normal(90, 100), 1, "image"),
            ("A", "1", masks[:30], 0, "mask"),
            ("B", "1", b),
            ("B", "1", masks[30:], 0, "mask"),
        )
    )
    assert found.names == ("A", "B", MASKS)
    assert found.between("A", "B") == frechet_distance(a, b)
    assert found.between("B", MASKS) == frechet_distance(b, masks)


def test_sets_of_few_vectors_have_a_warning():
    found = distance_matrix(
        table(("A", "1", normal(40)), ("B", "1", normal(29)), ("C", "1", [[1, 2, 3]]))
    )
    assert found.between("A", "C") is None and found.between("C", "C") is None
    assert found.between("A", "B") is not None
    few, one = found.warnings
    assert few.startswith("B has 29 vectors, fewer than 30")
    assert one.startswith("C has 1 vector: no distance")


def test_collapsed_vectors_have_a_warning():
    alike = np.ones((40, 3)) + 1e-6 * np.asarray(normal(40))
    found = distance_matrix(table(("A", "1", normal(40)), ("B", "1", alike)))
    [warning] = found.warnings
    assert warning.startswith("B has vectors that are practically equal")


def test_shrinkage_has_a_warning():
    found = distance_matrix(table(("A", "1", normal(40, d=25)), ("B", "1", normal(60, d=25))))
    assert found.between("A", "B").covariance == "ledoit_wolf"
    [warning] = found.warnings
    assert "fewer than 50 vectors" in warning and "Ledoit-Wolf" in warning


def test_a_single_vector_has_no_distance():
    found = distance_matrix(table(("A", "1", [[1, 2, 3]])))
    assert found.names == ("A",) and found.fsd == [[None]] and len(found.warnings) == 1


def test_a_domain_with_the_name_of_the_masks_is_refused():
    with pytest.raises(InputError, match="a domain is called masks"):
        vector_sets(table(("masks", "1", normal(3)), ("masks", "1", normal(3), 0, "mask")))


def test_dice_of_a_domain_is_the_mean_over_its_patches():
    rows = table(
        ("A", "1", normal(2)),
        ("A", "1", normal(1), 1, "image"),
        ("B", "1", normal(2)),
        ("C", "1", normal(1)),
        dice=[0.5, 0.7, 0.1, 0.9, np.nan, np.nan],
    )
    assert dice_by_domain(rows) == pytest.approx({"A": 0.6, "B": 0.9})


def test_dice_that_falls_with_distance_has_correlation_minus_1():
    parts = [
        (name, "1", normal(40) * 0 + shift) for name, shift in zip("SABC", range(4), strict=True)
    ]
    found = distance_matrix(table(*parts))
    dice = {name: 1 - found.between("S", name).value / 100 for name in "SABC"}
    assert dice_correlation(found, dice) == (pytest.approx(-1), 3)
    assert dice_correlation(found, dice, source="A")[1] == 3


def test_few_or_equal_values_have_no_correlation():
    found = distance_matrix(table(*[(n, "1", normal(5)) for n in "SABC"]))
    assert dice_correlation(found, {"S": 0.9, "A": 0.8, "B": 0.7}) is None
    assert dice_correlation(found, dict.fromkeys("SABC", 0.5)) is None
    assert dice_correlation(distance_matrix(table(("S", "1", normal(5)))), {}) is None
