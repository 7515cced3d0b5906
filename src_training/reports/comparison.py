"""A comparison as Markdown, CSV and HTML."""

import math
from html import escape
from pathlib import Path

from src_training.comparison.plan import ALONE
from src_training.comparison.table import Comparison, Row
from src_training.evaluation.bootstrap import Estimate
from src_training.io.atomic import write_text
from src_training.io.tables import csv_table, html_table, markdown_table
from src_training.reports.html import html_page
from src_training.reports.svg import CostPoint, cost_svg

_NUMBERS = (
    *("model", "domain", "dice", "low", "high"),
    *("gain", "gain_low", "gain_high", "seconds_a_step"),
)


_SETTINGS = "What the rows differ in"


def write_comparison(comparison: Comparison, title: str, out: Path) -> None:
    """Write ``comparison.md``, ``comparison.csv`` and ``comparison.html``; OSError if it cannot."""
    write_text(out / "comparison.md", as_markdown(comparison, title))
    write_text(out / "comparison.csv", as_csv(comparison))
    write_text(out / "comparison.html", as_page(comparison, title))


def as_markdown(comparison: Comparison, title: str) -> str:
    """The table as a person reads it, and what is to be known of it."""
    notes = [line for note in comparison.notes for line in ("", note)]
    lines = [f"# {title}", "", *markdown_table(*_table_of(comparison)), *notes]
    head, rows = _settings_of(comparison)
    if rows:
        lines += ["", f"## {_SETTINGS}", "", *markdown_table(head, rows)]
    return "\n".join([*lines, ""])


def as_csv(comparison: Comparison) -> str:
    """A line for each row and domain; empty where a number is not defined."""
    seeds, rows = list(comparison.rows[0].by_seed), list[list[str | float]]()
    nothing = Estimate(math.nan, math.nan, math.nan)
    for row in comparison.rows:
        for domain in comparison.domains:
            dice, gain = row.dice[domain], row.gain.get(domain, nothing)
            numbers = [dice.value, dice.low, dice.high, gain.value, gain.low, gain.high, row.step]
            numbers += [row.by_seed[seed][domain] for seed in seeds]
            rows.append([row.label, domain, *numbers])
    return csv_table([*_NUMBERS, *(f"dice_seed_{seed}" for seed in seeds)], rows, digits=6)


def as_page(comparison: Comparison, title: str) -> str:
    """Table and figures as a page that needs no other file."""
    head, rows = _table_of(comparison)
    numbered = [[str(number), *row] for number, row in enumerate(rows, 1)]
    parts = [html_table(["", *head], numbered)]
    parts += [f"<p><small>{escape(note)}</small></p>" for note in comparison.notes]
    parts += _figures(comparison)
    head, rows = _settings_of(comparison)
    if rows:
        parts += [f"<h2>{_SETTINGS}</h2>", html_table(head, rows)]
    return html_page(title, parts)


def _table_of(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Head and rows in words: Dice with intervals, gain over the student alone, cost."""
    alone = next(row for row in comparison.rows if row.label == ALONE)
    last = comparison.domains[-1]
    seeds = f"by seed ({', '.join(map(str, alone.by_seed))})"
    head = ["model", *comparison.domains, f"gain, {last}", seeds, "ms a step", "x alone"]
    rows = []
    for row in comparison.rows:
        gain, cost = ["", ""], ["", ""]
        if row.gain:
            gain = [_said(row.gain[last], "+.3f"), _by_seed(row, alone, last)]
        if not math.isnan(row.step):
            cost = [f"{row.step * 1000:.0f}", f"{row.step / alone.step:.2f}"]
        rows.append([row.label, *(_said(row.dice[d]) for d in comparison.domains), *gain, *cost])
    return head, rows


def _by_seed(row: Row, alone: Row, domain: str) -> str:
    gains = [own[domain] - alone.by_seed[seed][domain] for seed, own in row.by_seed.items()]
    return ", ".join(f"{gain:+.3f}" for gain in gains)


def _settings_of(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Head and rows of what the contestants' recipes differ in; no rows where in nothing."""
    told = [row for row in comparison.rows if row.settings]
    fields = list(told[0].settings) if told else []
    return ["model", *fields], [[row.label, *map(_setting, row.settings.values())] for row in told]


def _setting(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _said(found: Estimate, form: str = ".3f") -> str:
    if math.isnan(found.low):
        return f"{found.value:{form}}"
    return f"{found.value:{form}} ({found.low:{form}} to {found.high:{form}})"


def _figures(comparison: Comparison) -> list[str]:
    """A figure for each domain; none where no stage had two steps, between which to time one."""
    if all(math.isnan(row.step) for row in comparison.rows):
        return []
    figures = [_figure(comparison, domain) for domain in comparison.domains]
    return [
        "<h2>Dice against the cost of a step</h2>",
        f'<div class="row">{"".join(figures)}</div>',
        "<p><small>Numbers are rows of the table, bars their 95 % intervals, the dashed line is "
        "the student alone.</small></p>",
    ]


def _figure(comparison: Comparison, domain: str) -> str:
    points, line = list[CostPoint](), math.nan
    for number, row in enumerate(comparison.rows, 1):
        dice = row.dice[domain]
        if row.label == ALONE:
            line = dice.value
        if not math.isnan(row.step):
            measured = (row.step * 1000, dice.value, dice.low, dice.high)
            points.append(CostPoint(str(number), row.label, *measured))
    title = f"Dice on {domain} against milliseconds a step"
    drawn = cost_svg(title, points, line, ("milliseconds a step", "Dice"))
    return f"<figure><figcaption>{escape(domain)}</figcaption>{drawn}</figure>"
