"""A comparison as Markdown, CSV and HTML."""

import math
from pathlib import Path

from src_training.comparison.plan import BASELINE
from src_training.comparison.scores import Comparison, Row
from src_training.evaluation.bootstrap import Estimate
from src_training.io.atomic import write_text
from src_training.io.tables import csv_table, html_table, html_text, markdown_table, markdown_text
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
    """The tables and notes as Markdown."""
    notes = [line for note in comparison.notes for line in ("", markdown_text(note))]
    lines = [f"# {markdown_text(title)}", "", *markdown_table(*_score_table(comparison)), *notes]
    head, rows = _settings_table(comparison)
    if rows:
        lines += ["", f"## {_SETTINGS}", "", *markdown_table(head, rows)]
    return "\n".join([*lines, ""])


def as_csv(comparison: Comparison) -> str:
    """A line for each row and domain; undefined numbers are empty."""
    seeds, rows = list(comparison.rows[0].by_seed), list[list[str | float]]()
    undefined = Estimate(math.nan, math.nan, math.nan)
    for row in comparison.rows:
        for domain in comparison.domains:
            dice, gain = row.dice[domain], row.gain.get(domain, undefined)
            numbers = [dice.value, dice.low, dice.high, gain.value, gain.low, gain.high, row.step]
            numbers += [row.by_seed[seed][domain] for seed in seeds]
            rows.append([row.label, domain, *numbers])
    return csv_table([*_NUMBERS, *(f"dice_seed_{seed}" for seed in seeds)], rows, digits=6)


def as_page(comparison: Comparison, title: str) -> str:
    """Tables, notes and figures as an HTML page that needs no other file."""
    head, rows = _score_table(comparison)
    numbered = [[str(number), *row] for number, row in enumerate(rows, 1)]
    parts = [html_table(["", *head], numbered)]
    parts += [f"<p><small>{html_text(note)}</small></p>" for note in comparison.notes]
    parts += _figures(comparison)
    head, rows = _settings_table(comparison)
    if rows:
        parts += [f"<h2>{_SETTINGS}</h2>", html_table(head, rows)]
    return html_page(title, parts)


def _score_table(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Head and rows: Dice with intervals, gain over the student alone, cost of a step."""
    baseline = next(row for row in comparison.rows if row.label == BASELINE)
    gained = comparison.means or comparison.domains[-1:]
    seeds = f"by seed ({', '.join(map(str, baseline.by_seed))})"
    gains = [title for column in gained for title in (f"gain, {column}", seeds)]
    head = ["model", *comparison.domains, *gains, "ms a step", "x alone"]
    rows = []
    for row in comparison.rows:
        gain, cost = [""] * len(gains), ["", ""]
        if row.gain:
            gain = [
                text
                for column in gained
                for text in (
                    _format_estimate(row.gain[column], "+.3f"),
                    _gain_by_seed(row, baseline, column),
                )
            ]
        if not math.isnan(row.step):
            cost = [f"{row.step * 1000:.0f}", f"{row.step / baseline.step:.2f}"]
        rows.append(
            [row.label, *(_format_estimate(row.dice[d]) for d in comparison.domains), *gain, *cost]
        )
    return head, rows


def _gain_by_seed(row: Row, baseline: Row, domain: str) -> str:
    gains = [own[domain] - baseline.by_seed[seed][domain] for seed, own in row.by_seed.items()]
    return ", ".join(f"{gain:+.3f}" for gain in gains)


def _settings_table(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the fields in which the recipes differ; no rows if in none."""
    varied = [row for row in comparison.rows if row.settings]
    fields = list(varied[0].settings) if varied else []
    return ["model", *fields], [
        [row.label, *map(_format_setting, row.settings.values())] for row in varied
    ]


def _format_setting(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _format_estimate(estimate: Estimate, form: str = ".3f") -> str:
    if math.isnan(estimate.low):
        return f"{estimate.value:{form}}"
    return f"{estimate.value:{form}} ({estimate.low:{form}} to {estimate.high:{form}})"


def _figures(comparison: Comparison) -> list[str]:
    """A figure for each domain; none if no stage had the two steps that a time takes."""
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
        if row.label == BASELINE:
            line = dice.value
        if not math.isnan(row.step):
            measured = (row.step * 1000, dice.value, dice.low, dice.high)
            points.append(CostPoint(str(number), row.label, *measured))
    title = f"Dice on {domain} against milliseconds a step"
    svg = cost_svg(title, points, line, ("milliseconds a step", "Dice"))
    return f"<figure><figcaption>{html_text(domain)}</figcaption>{svg}</figure>"
