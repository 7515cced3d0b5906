"""Tables as text: what is written can be read again."""

import csv
import math
from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from src_training.io.tables import csv_table, html_table, markdown_table

words = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8)
rows = st.lists(st.tuples(words, words), max_size=4)


@given(rows)
def test_csv_is_read_again(rows):
    text = csv_table(["a", "b"], rows)
    assert [tuple(row) for row in csv.reader(text.splitlines())] == [("a", "b"), *rows]


def test_csv_rounds_numbers_and_leaves_nan_empty():
    text = csv_table(["x", "y", "n"], [[1 / 3, math.nan, 1_234_567_890]], digits=6)
    assert text == "x,y,n\n0.333333,,1234567890\n"


@given(rows)
def test_html_cells_are_escaped(rows):
    cells = []
    parser = HTMLParser()
    parser.handle_data = cells.append
    parser.feed(html_table(["a"], rows))
    parser.close()
    assert "".join(cells) == "a" + "".join(cell for row in rows for cell in row)


def test_markdown_has_a_line_below_its_head():
    assert markdown_table(["a", "b"], [("1", "2")]) == ["| a | b |", "|---|---|", "| 1 | 2 |"]
