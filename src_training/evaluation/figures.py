"""Figures as SVG: they scale, need no library, and follow the page's light or dark theme."""

import math
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from numpy.typing import NDArray

from src_training.evaluation.contributions import Contribution
from src_training.evaluation.distances import MASKS

Array = NDArray[np.float64]
Range = tuple[float, float, float, float]

# Okabe and Ito's, told apart by colour-blind readers, but for black and yellow:
# one of them would be lost on a light or a dark page.
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
_GREY = "#8c8c8c"
_SIDE, _MARGIN = 320, 12
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
        Group -> colour; groups are drawn in this order.
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
    for group, colour in colours.items():
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


def bars_svg(title: str, found: Sequence[Contribution], colour: str) -> str:
    """Contributions as bars from a common zero, in their order; unknown ones say so."""
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
