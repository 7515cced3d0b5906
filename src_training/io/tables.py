"""Tables as Markdown, CSV and HTML: the only writers of tables in this package."""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from html import escape

Cell = str | int | float


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table.

    Examples
    --------
    >>> markdown_table(["model", "Dice"], [["enet", "0.8"]])
    ['| model | Dice |', '|---|---|', '| enet | 0.8 |']
    """
    lines = ["| " + " | ".join(row) + " |" for row in (head, *rows)]
    return [lines[0], "|" + "---|" * len(head), *lines[1:]]


def csv_table(head: Sequence[str], rows: Iterable[Sequence[Cell]], digits: int = 9) -> str:
    r"""CSV text of a table, with lines ended by ``\n``.

    Floating-point numbers are rounded to so many significant digits; NaN is left empty.

    Examples
    --------
    >>> csv_table(["model", "dice", "n"], [["a, b", 0.25, 3], ["c", float("nan"), 4]])
    'model,dice,n\n"a, b",0.25,3\nc,,4\n'
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows([_csv_cell(cell, digits) for cell in row] for row in rows)
    return text.getvalue()


def html_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """HTML of a table; cells are escaped.

    Examples
    --------
    >>> html_table(["model"], [["a & b"]])
    '<table><tr><th>model</th></tr><tr><td>a &amp; b</td></tr></table>'
    """
    titles = "".join(f"<th>{escape(each)}</th>" for each in head)
    lines = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
    return f"<table><tr>{titles}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _csv_cell(cell: Cell, digits: int) -> Cell:
    if not isinstance(cell, float):
        return cell
    return "" if math.isnan(cell) else f"{cell:.{digits}g}"
