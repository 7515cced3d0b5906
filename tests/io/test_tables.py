"""Formatted tables can be read again."""

import csv
import io
import math
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from src_training.io.tables import csv_table, html_table, markdown_table, markdown_text

NAMES = [
    "a[/b]",
    "a[b](c)",
    "![a](b)",
    "<b>x</b>",
    "a&amp;b",
    "a&b",
    'a"b',
    "a|b",
    "*a* __b__ _c_",
    "`a`",
    "a\\b",
    "my_long_name_1",
    "~~a~~",
    "🫀",
    "é" * 300,
]
words = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=8)
words |= st.sampled_from([*NAMES, "a\nb"])
rows = st.lists(st.tuples(words, words), max_size=4)


@given(rows)
def test_csv_is_read_again(rows):
    text = csv_table(["a", "b"], rows)
    _, *read = csv.reader(io.StringIO(text))
    for cells, original in zip(read, rows, strict=True):
        for cell, word in zip(cells, original, strict=True):
            assert cell in (word, f"'{word}")
            assert not cell.startswith(("=", "+", "-", "@", "\t")) or float(cell)


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ("=1+1", "'=1+1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("+cmd", "'+cmd"),
        ("-0.5", "-0.5"),
        (-0.5, "-0.5"),
        (1 / 3, "0.3333333333333333"),
        (None, ""),
    ],
)
def test_no_csv_cell_is_a_formula(cell, written):
    assert csv_table(["x", "y"], [["a", cell]], digits=None) == f"x,y\na,{written}\n"


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


@pytest.mark.parametrize("name", NAMES)
def test_markdown_shows_names_literally(name):
    reader = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    page = "\n".join([f"# {markdown_text(name)}", "", *markdown_table(["head"], [[name]])])
    shown = []
    parser = HTMLParser()
    parser.handle_data = shown.append
    parser.feed(reader.render(page))
    parser.close()
    assert "".join(shown).split("\n", 1)[0] == name
    assert [line for line in "".join(shown).split("\n") if line][-1] == name
