"""Selecting, filtering, concatenating and writing rows of a table."""

import csv

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from src_training.explore.embedding_table import concatenate
from tests.explore.scans import domain, extracted
from tests.explore.tables import table

ROWS = table(
    ("A", "1", np.eye(3)[:2]),
    ("A", "1", np.eye(3)[2:], 1, "image"),
    ("B", "2", 2 * np.eye(3)[:1]),
    ("B", "2", 3 * np.eye(3)[:2], 0, "mask"),
)


@given(st.lists(st.integers(0, len(ROWS) - 1)))
def test_rows_are_taken_in_the_order_of_their_indices(indices):
    taken = ROWS.take(indices)
    assert len(taken) == len(indices)
    assert taken.domains == tuple(ROWS.domains[i] for i in indices)
    np.testing.assert_array_equal(taken.values, ROWS.values[np.array(indices, int)])


def test_rows_are_taken_by_a_mask():
    taken = ROWS.take(ROWS.views == 1)
    assert len(taken) == 1 and taken.kinds == ("image",) and taken.values[0, 2] == 1


def test_rows_are_filtered_by_domain_kind_and_view():
    assert len(ROWS.where()) == 6
    assert ROWS.where(domain="B", kind="image").values.tolist() == [[2, 0, 0]]
    assert len(ROWS.where(view=0)) == 5 and len(ROWS.where(kind="mask", view=1)) == 0


def test_concatenated_parts_are_the_whole():
    parts = [ROWS.where(domain=name) for name in ("A", "B")]
    whole = concatenate(parts)
    assert (whole.domains, whole.kinds) == (ROWS.domains, ROWS.kinds)
    np.testing.assert_array_equal(whole.values, ROWS.values)


def test_the_table_is_saved_as_csv(model, tmp_path):
    found = extracted(model, [domain(), domain("a, b", masks=False)], views=1)
    found.save_csv(tmp_path / "vectors.csv")
    rows = list(csv.DictReader((tmp_path / "vectors.csv").read_text().splitlines()))
    assert list(rows[0])[:8] == ["domain", "case", "kind", "view", "top", "left", "dice", "area_1"]
    assert len(rows) == 12 and rows[-1]["domain"] == "a, b" and rows[-1]["dice"] == ""
    assert (rows[1]["view"], rows[1]["top"], rows[1]["left"]) == ("1", "2", "4")
    values = [[float(row[f"z_{i}"]) for i in range(3)] for row in rows]
    np.testing.assert_allclose(values, found.values, rtol=1e-8)
