"""Formatting tables as Markdown, CSV and HTML."""

import csv
import io
import math
import re
from collections.abc import Iterable, Sequence
from html import escape

from src_training.errors import printable

Cell = str | int | float | None

# Markup of Markdown inside a line; underscores within a word are no markup.
_MARKUP = re.compile(r"[\\`*<\[\]|~]|&(?=#?\w+;)|(?<![^\W_])_|_(?![^\W_])")
# Characters that begin a formula in spreadsheets.
_FORMULA = tuple("=+-@＝＋－＠")


def markdown_text(text: str) -> str:
    r"""Escape text for a line of Markdown, which then shows it literally.

    Examples
    --------
    >>> markdown_text("a[b] <i> my_run")
    'a\\[b\\] \\<i> my_run'
    """
    return _MARKUP.sub(r"\\\g<0>", printable(" ".join(text.splitlines())))


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Format the lines of a Markdown table; cells are escaped.

    Examples
    --------
    >>> markdown_table(["model", "Dice"], [["enet", "0.8"]])
    ['| model | Dice |', '|---|---|', '| enet | 0.8 |']
    """
    lines = ["| " + " | ".join(map(markdown_text, row)) + " |" for row in (head, *rows)]
    return [lines[0], "|" + "---|" * len(head), *lines[1:]]


def csv_table(head: Sequence[str], rows: Iterable[Sequence[Cell]], digits: int | None = 9) -> str:
    r"""Format a table as CSV, with ``\n`` after each line.

    Floats are rounded to `digits` significant digits, unless that is None; NaN becomes an empty
    cell. Text that a spreadsheet would evaluate, such as ``=1+1``, is prefixed with ``'``.

    Examples
    --------
    >>> csv_table(["model", "dice", "n"], [["a, b", 0.25, 3], ["c", float("nan"), 4]])
    'model,dice,n\n"a, b",0.25,3\nc,,4\n'
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([_csv_cell(cell, digits) for cell in head])
    writer.writerows([_csv_cell(cell, digits) for cell in row] for row in rows)
    return text.getvalue()


def html_text(text: str) -> str:
    r"""Escape text for HTML and SVG, including values of attributes.

    Examples
    --------
    >>> html_text("<a>\x1b")
    '&lt;a&gt;␛'
    """
    return escape(printable(text, lines=True))


def html_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a table as HTML; cells are escaped.

    Examples
    --------
    >>> html_table(["model"], [["a & b"]])
    '<table><tr><th>model</th></tr><tr><td>a &amp; b</td></tr></table>'
    """
    titles = "".join(f"<th>{html_text(each)}</th>" for each in head)
    lines = ["".join(f"<td>{html_text(cell)}</td>" for cell in row) for row in rows]
    return f"<table><tr>{titles}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _csv_cell(cell: Cell, digits: int | None) -> Cell:
    if isinstance(cell, str):
        text = printable(cell, lines=True)
        return f"'{text}" if text.startswith(_FORMULA) and not _is_number(text) else text
    if not isinstance(cell, float):
        return cell
    if math.isnan(cell):
        return ""
    return str(cell) if digits is None else f"{cell:.{digits}g}"


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
