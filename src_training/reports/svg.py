"""Figures as SVG: they scale, need no library, and follow the page's light or dark theme."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from numpy.typing import NDArray

from src_training.explore.fsd_influence import Influence
from src_training.explore.fsd_matrix import MASKS

Array = NDArray[np.float64]
Range = tuple[float, float, float, float]

# Okabe and Ito's, told apart by colour-blind readers, but for black and yellow:
# one of them would be lost on a light or a dark page.
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
_GREY = "#8c8c8c"
_SIDE, _MARGIN = 320, 12
_LEFT, _BOTTOM = 48, _SIDE - 28
_BAR, _NAMES, _LENGTH, _NUMBERS = 20, 170, 260, 110


def colours_of(names: Sequence[str]) -> dict[str, str]:
    """A colour for each domain, again from the first beyond six; grey for the masks."""
    domains = [name for name in names if name != MASKS]
    chosen = {name: _COLOURS[i % len(_COLOURS)] for i, name in enumerate(domains)}
    return chosen | {name: _GREY for name in names if name == MASKS}


def range_of(points: Sequence[Array]) -> Range:
    """Left, bottom, width and height of a square that holds all points (N, 2)."""
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
    shown: Range,
) -> str:
    """Points in a square.

    Parameters
    ----------
    title
        Read out where the figure cannot be seen.
    points
        (N, 2).
    groups, names
        Of each point: its colour's key, and what hovering says.
    colours
        Group -> colour; the first lies on top, the last, the masks, below.
    shown
        See `range_of`; the same for figures to be compared.
    """
    left, bottom, width, height = shown
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
            f"<title>{escape(names[i])}</title></circle>"
            for i in chosen
        )
        parts.append(f'<g fill="{colour}" fill-opacity="0.7">{dots}</g>')
    return _svg(title, _SIDE, _SIDE, parts)


def bars_svg(title: str, found: Sequence[Influence], colour: str) -> str:
    """Contributions as bars from a common zero, in their order; unknown ones (NaN) say so.

    Parameters
    ----------
    title
        Read out where the figure cannot be seen.
    found
        See `leave_one_out_influence`.
    colour
        Of the bars, as CSS has it.
    """
    known = [each.value for each in found if not math.isnan(each.value)]
    low, high = min([0.0, *known]), max([0.0, *known])
    scale = _LENGTH / (high - low) if high > low else 0.0
    zero = _NAMES - low * scale
    parts = []
    for row, each in enumerate(found):
        top, middle = row * _BAR, row * _BAR + _BAR * 0.7
        parts.append(
            f'<text x="{_NAMES - 8}" y="{middle:.1f}" text-anchor="end">{_short(each.case)}</text>'
        )
        told = "one image alone: not known"
        if not math.isnan(each.value):
            told = f"{each.value:.3g} ({each.share:.0%})"
            start, length = zero + min(0.0, each.value) * scale, abs(each.value) * scale
            parts.append(
                f'<rect x="{start:.1f}" y="{top + 3}" width="{length:.1f}" '
                f'height="{_BAR - 6}" fill="{colour}"/>'
            )
        parts.append(f'<text x="{_NAMES + _LENGTH + 8}" y="{middle:.1f}">{told}</text>')
    return _svg(title, _NAMES + _LENGTH + _NUMBERS, max(1, len(found)) * _BAR, parts)


class Measured(NamedTuple):
    """A score and what it costs.

    Attributes
    ----------
    mark
        What is written in its dot, such as a number.
    name
        What hovering says.
    cost
        Above 0, in any one unit; across.
    value
        The score; upwards.
    low, high
        Ends of its interval; both NaN where there is none.
    """

    mark: str
    name: str
    cost: float
    value: float
    low: float
    high: float


def cost_svg(title: str, points: Sequence[Measured], level: float, axes: tuple[str, str]) -> str:
    """Scores over their cost, each a numbered dot with its interval (none where it is NaN).

    Parameters
    ----------
    title
        Read out where the figure cannot be seen.
    points
        At least one; a cost is > 0.
    level
        Where a line is drawn across.
    axes
        What is written along the axes: across, upwards.
    """
    values = [end for p in points for end in (p.value, p.low, p.high) if not math.isnan(end)]
    low, high = min([level, *values]), max([level, *values])
    room = 0.1 * (high - low) or 0.01
    plane = _Plane(1.1 * max(point.cost for point in points), low - room, high + room)
    names = [
        f'<text x="{_SIDE - _MARGIN}" y="{_SIDE + 6}" text-anchor="end">{escape(axes[0])}</text>',
        f'<text x="{_LEFT - 6}" y="{_MARGIN}" text-anchor="end">{escape(axes[1])}</text>',
    ]
    parts = [*names, *plane.axes(level), *map(plane.dot, points)]
    return _svg(title, _SIDE, _SIDE + _MARGIN, parts)


class _Plane(NamedTuple):
    """Costs from 0 across, scores from `low` to `high` upwards."""

    dearest: float
    low: float
    high: float

    def across(self, cost: float) -> float:
        return _LEFT + cost / self.dearest * (_SIDE - _LEFT - _MARGIN)

    def down(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return _BOTTOM - share * (_BOTTOM - _MARGIN)

    def axes(self, level: float) -> list[str]:
        end = _SIDE - _MARGIN
        across = f"M{_LEFT} {self.down(level):.1f}H{end}"
        lines = (
            f'<path class="frame" d="M{_LEFT} {_MARGIN}V{_BOTTOM}H{end}"/>',
            f'<path class="frame" stroke-dasharray="4 3" d="{across}"/>',
        )
        scores = [
            f'<text x="{_LEFT - 6}" y="{self.down(tick) + 4:.1f}" text-anchor="end">'
            f"{tick:.3f}</text>"
            for tick in np.linspace(self.low, self.high, 5)[1:-1]
        ]
        costs = [
            f'<text x="{self.across(tick):.1f}" y="{_BOTTOM + 18}" text-anchor="middle">'
            f"{tick:,.0f}</text>"
            for tick in (0.0, self.dearest / 2.2, self.dearest / 1.1)
        ]
        return [*lines, *scores, *costs]

    def dot(self, point: Measured) -> str:
        x, y = self.across(point.cost), self.down(point.value)
        interval = ""
        if not math.isnan(point.low):
            ends = f"M{x:.1f} {self.down(point.low):.1f}V{self.down(point.high):.1f}"
            interval = f'<path class="frame" d="{ends}"/>'
        return (
            f'{interval}<circle cx="{x:.1f}" cy="{y:.1f}" r="8" fill="{_COLOURS[0]}">'
            f"<title>{escape(point.name)}: {point.value:.3f}</title></circle>"
            f'<text x="{x:.1f}" y="{y + 4:.1f}" text-anchor="middle" fill="white" '
            f'font-size="10">{escape(point.mark)}</text>'
        )


def _svg(title: str, width: int, height: int, parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" aria-label={quoteattr(title)} '
        'fill="currentColor" font-family="sans-serif" font-size="12">'
        f"<style>.frame{{fill:none;stroke:currentColor;stroke-opacity:.3}}</style>"
        f"{''.join(parts)}</svg>"
    )


def _short(name: str) -> str:
    return escape(name if len(name) <= 24 else f"{name[:23]}…")
