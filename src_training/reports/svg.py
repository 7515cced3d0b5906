"""Figures as SVG text, which take the light or dark text colour of the page."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from src_training.explore.fsd_influence import Influence
from src_training.explore.fsd_matrix import MASKS
from src_training.formatting import format_number
from src_training.io.tables import html_text

Array = NDArray[np.float64]
Limits = tuple[float, float, float, float]

# Okabe and Ito's colour-blind safe palette without black and yellow, which lack contrast on
# a dark or on a light page.
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
_GREY = "#8c8c8c"
_SIDE, _MARGIN = 320, 12
_LEFT, _BOTTOM = 48, _SIDE - 28
_BAR, _NAMES, _LENGTH, _NUMBERS = 20, 170, 260, 110


def group_colours(names: Sequence[str]) -> dict[str, str]:
    """Return a colour for each domain, repeated after six; grey for the masks."""
    domains = [name for name in names if name != MASKS]
    chosen = {name: _COLOURS[i % len(_COLOURS)] for i, name in enumerate(domains)}
    return chosen | {name: _GREY for name in names if name == MASKS}


def common_limits(points: Sequence[Array]) -> Limits:
    """Return left, bottom, width and height of a square around all points (N, 2)."""
    everything = np.concatenate([np.zeros((0, 2)), *points])
    if not len(everything):
        return 0.0, 0.0, 1.0, 1.0
    low, high = everything.min(0), everything.max(0)
    side = float((high - low).max()) or 1.0
    left, bottom = (low + high) / 2 - side / 2
    return float(left), float(bottom), side, side


def scatter_svg(
    title: str,
    points: Array,
    groups: Sequence[str],
    names: Sequence[str],
    colours: Mapping[str, str],
    limits: Limits,
) -> str:
    """Draw a square scatter plot.

    Parameters
    ----------
    title
        Label for screen readers.
    points
        (N, 2).
    groups, names
        Group of each point, which sets its colour, and its tooltip.
    colours
        Group -> colour; the first group is drawn on top.
    limits
        See `common_limits`; figures with the same limits are comparable.
    """
    left, bottom, width, height = limits
    inner = _SIDE - 2 * _MARGIN
    across = _MARGIN + (points[:, 0] - left) / width * inner
    down = _SIDE - _MARGIN - (points[:, 1] - bottom) / height * inner
    parts = [
        f'<rect x="0.5" y="0.5" width="{_SIDE - 1}" height="{_SIDE - 1}" class="frame"/>',
    ]
    for group, colour in reversed(list(colours.items())):
        chosen = [i for i, each in enumerate(groups) if each == group]
        if not chosen:
            continue
        dots = "".join(
            f'<circle cx="{across[i]:.1f}" cy="{down[i]:.1f}" r="3">'
            f"<title>{html_text(names[i])}</title></circle>"
            for i in chosen
        )
        parts.append(f'<g fill="{colour}" fill-opacity="0.7">{dots}</g>')
    return _svg(title, _SIDE, _SIDE, parts)


def bars_svg(title: str, influences: Sequence[Influence], colour: str) -> str:
    """Draw a bar chart of influences.

    Parameters
    ----------
    title
        Label for screen readers.
    influences
        See `leave_one_out_influence`; none of them NaN.
    colour
        CSS colour of the bars.
    """
    values = [each.value for each in influences]
    low, high = min([0.0, *values]), max([0.0, *values])
    scale = _LENGTH / (high - low) if high > low else 0.0
    zero = _NAMES - low * scale
    parts = []
    for row, each in enumerate(influences):
        top, middle = row * _BAR, row * _BAR + _BAR * 0.7
        parts.append(
            f'<text x="{_NAMES - 8}" y="{middle:.1f}" text-anchor="end">{_short(each.case)}</text>'
        )
        start, length = zero + min(0.0, each.value) * scale, abs(each.value) * scale
        parts.append(
            f'<rect x="{start:.1f}" y="{top + 3}" width="{length:.1f}" '
            f'height="{_BAR - 6}" fill="{colour}"/>'
        )
        number = f"{format_number(each.value)} ({each.share:.0%})"
        parts.append(f'<text x="{_NAMES + _LENGTH + 8}" y="{middle:.1f}">{number}</text>')
    return _svg(title, _NAMES + _LENGTH + _NUMBERS, max(1, len(influences)) * _BAR, parts)


class CostPoint(NamedTuple):
    """A score and its cost.

    Attributes
    ----------
    mark
        Text in the dot, such as a number.
    name
        Tooltip.
    cost
        Cost (> 0), on the horizontal axis.
    value
        Score, on the vertical axis.
    low, high
        Interval of the score; both NaN without one.
    """

    mark: str
    name: str
    cost: float
    value: float
    low: float
    high: float


def cost_svg(
    title: str, points: Sequence[CostPoint], level: float, axis_labels: tuple[str, str]
) -> str:
    """Draw a scatter plot of scores against costs, with intervals.

    Parameters
    ----------
    title
        Label for screen readers.
    points
        At least one point.
    level
        Score of a dashed horizontal line.
    axis_labels
        Labels of the horizontal and the vertical axis.
    """
    values = [end for p in points for end in (p.value, p.low, p.high) if not math.isnan(end)]
    low, high = min([level, *values]), max([level, *values])
    margin = 0.1 * (high - low) or 0.01
    axes = _Axes(1.1 * max(point.cost for point in points), low - margin, high + margin)
    across, upwards = map(html_text, axis_labels)
    labels = [
        f'<text x="{_SIDE - _MARGIN}" y="{_SIDE + 6}" text-anchor="end">{across}</text>',
        f'<text x="{_LEFT - 6}" y="{_MARGIN}" text-anchor="end">{upwards}</text>',
    ]
    parts = [*labels, *axes.lines(level), *map(axes.dot, points)]
    return _svg(title, _SIDE, _SIDE + _MARGIN, parts)


class _Axes(NamedTuple):
    """Horizontal axis of costs from 0 to `highest_cost`, vertical axis of scores."""

    highest_cost: float
    low: float
    high: float

    def x(self, cost: float) -> float:
        return _LEFT + cost / self.highest_cost * (_SIDE - _LEFT - _MARGIN)

    def y(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return _BOTTOM - share * (_BOTTOM - _MARGIN)

    def lines(self, level: float) -> list[str]:
        end = _SIDE - _MARGIN
        across = f"M{_LEFT} {self.y(level):.1f}H{end}"
        lines = (
            f'<path class="frame" d="M{_LEFT} {_MARGIN}V{_BOTTOM}H{end}"/>',
            f'<path class="frame" stroke-dasharray="4 3" d="{across}"/>',
        )
        scores = [
            f'<text x="{_LEFT - 6}" y="{self.y(tick) + 4:.1f}" text-anchor="end">{tick:.3f}</text>'
            for tick in np.linspace(self.low, self.high, 5)[1:-1]
        ]
        costs = [
            f'<text x="{self.x(tick):.1f}" y="{_BOTTOM + 18}" text-anchor="middle">'
            f"{tick:,.0f}</text>"
            for tick in (0.0, self.highest_cost / 2.2, self.highest_cost / 1.1)
        ]
        return [*lines, *scores, *costs]

    def dot(self, point: CostPoint) -> str:
        x, y = self.x(point.cost), self.y(point.value)
        interval = ""
        if not math.isnan(point.low):
            ends = f"M{x:.1f} {self.y(point.low):.1f}V{self.y(point.high):.1f}"
            interval = f'<path class="frame" d="{ends}"/>'
        return (
            f'{interval}<circle cx="{x:.1f}" cy="{y:.1f}" r="8" fill="{_COLOURS[0]}">'
            f"<title>{html_text(point.name)}: {point.value:.3f}</title></circle>"
            f'<text x="{x:.1f}" y="{y + 4:.1f}" text-anchor="middle" fill="white" '
            f'font-size="10">{html_text(point.mark)}</text>'
        )


def _svg(title: str, width: int, height: int, parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" aria-label="{html_text(title)}" '
        'fill="currentColor" font-family="sans-serif" font-size="12">'
        f"<style>.frame{{fill:none;stroke:currentColor;stroke-opacity:.3}}</style>"
        f"{''.join(parts)}</svg>"
    )


def _short(name: str) -> str:
    return html_text(name if len(name) <= 24 else f"{name[:23]}…")
