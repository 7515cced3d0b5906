"""Colors of the points of a scatter plot, and their legend."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_msankd.theme import LINES

if TYPE_CHECKING:
    from src_training.explore.embedding_table import EmbeddingTable

COLUMNS = ("domain", "image", "view", "foreground area", "Dice")

# Dark to bright, each with a contrast of about 3 to the background of either theme.
_RAMP = ("#5a55c8", "#2b83d6", "#168f9c", "#2f9556", "#8f9a1f", "#d58a28")
_UNKNOWN = "#7a7f8c"
_MOST_NAMED = 10


@dataclass(frozen=True)
class PointColors:
    """A color for each row of a table.

    Attributes
    ----------
    palette
        Colors, ``#rrggbb``.
    index
        Index (N,) of each row's color in `palette`.
    legend
        Meaning of the colors, rich text in one line.
    """

    palette: tuple[str, ...]
    index: NDArray[np.intp]
    legend: str


def point_colors(table: "EmbeddingTable", by: str) -> PointColors:
    """Color the rows of a table by one of `COLUMNS`."""
    colors = _by_column(table, by)
    if "mask" not in table.kinds:
        return colors
    return replace(colors, legend=f"{colors.legend} &nbsp; ◆&nbsp;masks")


def _by_column(table: "EmbeddingTable", by: str) -> PointColors:
    if by == "domain":
        return _named(table.domains)
    if by == "image":
        pairs = zip(table.domains, table.cases, strict=True)
        return _named([f"{domain} / {case}" for domain, case in pairs])
    if by == "view":
        return _named([f"view {view}" if view else "original" for view in table.views.tolist()])
    if by == "foreground area":
        return _graded(table.areas.sum(1), "{:.0%} foreground")
    return _graded(np.asarray(table.dice, float), "Dice {:.2f}")


def _named(names: Sequence[str]) -> PointColors:
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    index = np.array([numbers[name] % len(LINES) for name in names], np.intp)
    if len(numbers) > _MOST_NAMED:
        return PointColors(
            LINES, index, f"{len(numbers)} images, colors repeat; hover over a point for its name"
        )
    swatches = (_swatch(LINES[number % len(LINES)], name) for name, number in numbers.items())
    return PointColors(LINES, index, " &nbsp; ".join(swatches))


def _graded(values: NDArray[np.float64], form: str) -> PointColors:
    """A color ramp from the lowest to the highest value; NaN is grey."""
    known = np.isfinite(values)
    index = np.full(len(values), len(_RAMP), np.intp)
    if not known.any():
        legend = _swatch(_UNKNOWN, "unknown (no masks)")
        return PointColors((*_RAMP, _UNKNOWN), index, legend)
    low, high = float(values[known].min()), float(values[known].max())
    share = (values[known] - low) / ((high - low) or 1.0)
    index[known] = np.minimum(len(_RAMP) - 1, (share * len(_RAMP)).astype(np.intp))
    bar = "".join(f'<span style="color:{color}">■</span>' for color in _RAMP)
    legend = f"{form.format(low)} {bar} {form.format(high)}"
    if not known.all():
        legend += " &nbsp; " + _swatch(_UNKNOWN, "unknown")
    return PointColors((*_RAMP, _UNKNOWN), index, legend)


def _swatch(color: str, text: str) -> str:
    return f'<span style="color:{color}">●</span>&nbsp;{escape(text).replace(" ", "&nbsp;")}'
