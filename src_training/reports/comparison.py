"""The report of a comparison as Markdown, CSV and HTML."""

import math
from pathlib import Path

from src_training.comparison.controls import KINDS
from src_training.comparison.plan import BASELINE
from src_training.comparison.scores import Comparison, Control, Row
from src_training.evaluation.bootstrap import Estimate
from src_training.io.atomic import write_text
from src_training.io.tables import csv_table, html_table, html_text, markdown_table, markdown_text
from src_training.reports.html import html_page
from src_training.reports.svg import CostPoint, cost_svg

_NUMBERS = (
    *("model", "domain", "dice", "low", "high"),
    *("gain", "gain_low", "gain_high", "seconds_a_step", "steps", "seconds"),
    *(
        f"{name}{end}"
        for name in KINDS
        for end in ("_control", "_control_seconds", "_gain", "_gain_low", "_gain_high")
    ),
)

_SETTINGS = "What the rows differ in"


def write_comparison(comparison: Comparison, title: str, out: Path) -> None:
    """Write ``comparison.md``, ``comparison.csv`` and ``comparison.html``; may raise OSError."""
    write_text(out / "comparison.md", as_markdown(comparison, title))
    write_text(out / "comparison.csv", as_csv(comparison))
    write_text(out / "comparison.html", as_page(comparison, title))


def as_markdown(comparison: Comparison, title: str) -> str:
    """Format tables and notes as Markdown."""
    notes = [line for note in comparison.notes for line in ("", markdown_text(note))]
    lines = [f"# {markdown_text(title)}", "", *markdown_table(*_score_table(comparison))]
    for column in _gain_columns(comparison):
        lines += ["", f"## {_gain_title(column)}", ""]
        lines += markdown_table(*_gain_table(comparison, column))
    lines += notes
    head, rows = _settings_table(comparison)
    if rows:
        lines += ["", f"## {_SETTINGS}", "", *markdown_table(head, rows)]
    return "\n".join([*lines, ""])


def as_csv(comparison: Comparison) -> str:
    """Format the comparison as CSV, with a line for each row and domain; empty cells for NaN."""
    seeds, rows = list(comparison.rows[0].by_seed), list[list[str | float]]()
    seconds = {row.label: row.seconds for row in comparison.rows}
    for row in comparison.rows:
        for domain in comparison.domains:
            cells: list[str | float] = [row.label, domain, *_numbers(row.dice, domain)]
            cells += [*_numbers(row.gain, domain), row.step, row.steps, row.seconds]
            for kind in KINDS:
                control = row.controls.get(kind, Control("", {}))
                cells += [control.label, seconds.get(control.label, math.nan)]
                cells += _numbers(control.gain, domain)
            rows.append([*cells, *(row.by_seed[seed][domain] for seed in seeds)])
    return csv_table([*_NUMBERS, *(f"dice_seed_{seed}" for seed in seeds)], rows, digits=6)


def as_page(comparison: Comparison, title: str) -> str:
    """Format tables, notes and figures as a self-contained HTML page."""
    head, rows = _score_table(comparison)
    numbered = [[str(number), *row] for number, row in enumerate(rows, 1)]
    parts = [html_table(["", *head], numbered)]
    for column in _gain_columns(comparison):
        parts += [f"<h2>{_gain_title(column)}</h2>", html_table(*_gain_table(comparison, column))]
    parts += [f"<p><small>{html_text(note)}</small></p>" for note in comparison.notes]
    parts += _figures(comparison)
    head, rows = _settings_table(comparison)
    if rows:
        parts += [f"<h2>{_SETTINGS}</h2>", html_table(head, rows)]
    return html_page(title, parts)


def _score_table(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Head and rows of Dice with intervals, and of the cost of training."""
    baseline = next(row for row in comparison.rows if row.label == BASELINE)
    head = ["model", *comparison.domains, "ms a step", "x alone", "steps", "seconds"]
    rows = []
    for row in comparison.rows:
        cost = ["", "", f"{row.steps}", ""]
        if not math.isnan(row.step):
            cost = [f"{row.step * 1000:.0f}", f"{row.step / baseline.step:.2f}", *cost[2:]]
            cost[3] = f"{row.seconds:.1f}"
        rows.append(
            [row.label, *(_format_estimate(row.dice[d]) for d in comparison.domains), *cost]
        )
    return head, rows


def _gain_columns(comparison: Comparison) -> list[str]:
    """Columns of Dice to show gains for; none if there are no distilled students."""
    if not any(row.gain for row in comparison.rows):
        return []
    return comparison.means or comparison.domains[-1:]


def _gain_title(column: str) -> str:
    return f"Gain in Dice over each control, {column}"


def _gain_table(comparison: Comparison, column: str) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the gains of students over the baseline and over each control."""
    baseline = next(row for row in comparison.rows if row.label == BASELINE)
    students = [row for row in comparison.rows if row.gain]
    kinds = [kind for kind in KINDS if any(kind in row.controls for row in students)]
    seeds = f"by seed ({', '.join(map(str, baseline.by_seed))})"
    head = ["model", "student alone, equal steps", seeds, *(KINDS[kind].title for kind in kinds)]
    rows = []
    for row in students:
        controls = [row.controls.get(kind) for kind in kinds]
        gain = _format_estimate(row.gain[column], "+.3f")
        cells = [_over_control(control, column) for control in controls]
        rows.append([row.label, gain, _gain_by_seed(row, baseline, column), *cells])
    return head, rows


def _over_control(control: Control | None, column: str) -> str:
    if control is None:
        return ""
    if not control.label:
        return "not trained"
    return f"{_format_estimate(control.gain[column], '+.3f')} over {control.label}"


def _numbers(estimates: dict[str, Estimate], domain: str) -> list[float]:
    """Value, low and high of an estimate; NaN if there is none."""
    estimate = estimates.get(domain, Estimate(math.nan, math.nan, math.nan))
    return [estimate.value, estimate.low, estimate.high]


def _gain_by_seed(row: Row, baseline: Row, domain: str) -> str:
    gains = [dice[domain] - baseline.by_seed[seed][domain] for seed, dice in row.by_seed.items()]
    return ", ".join(f"{gain:+.3f}" for gain in gains)


def _settings_table(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the recipe fields that differ between rows; no rows if none differ."""
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
    """A figure for each domain; none if no row has a time per step."""
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
