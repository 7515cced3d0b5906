"""Colours of the points of a scatter, and what they mean in words."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_msankd.theme import LINES

if TYPE_CHECKING:
    from src_training.explore.embedding_table import EmbeddingTable

BY = ("domain", "sample", "view", "class area", "Dice")

# Dark to bright, each with a contrast of about 3 to the background of either theme.
_RAMP = ("#5a55c8", "#2b83d6", "#168f9c", "#2f9556", "#8f9a1f", "#d58a28")
_UNKNOWN = "#7a7f8c"
_MOST_NAMED = 10


@dataclass(frozen=True)
class PointColors:
    """A colour for each row of a table.

    Attributes
    ----------
    palette
        Colours, each ``#rrggbb``.
    index
        (N,) of each row's colour in `palette`.
    legend
        Rich text, a line: what each colour means.
    """

    palette: tuple[str, ...]
    index: NDArray[np.intp]
    legend: str


def colouring(table: "EmbeddingTable", by: str) -> PointColors:
    """Colour the rows of a table by one of `BY`."""
    found = _coloured(table, by)
    if "mask" not in table.kinds:
        return found
    return replace(found, legend=f"{found.legend} &nbsp; ◆&nbsp;masks")


def _coloured(table: "EmbeddingTable", by: str) -> PointColors:
    if by == "domain":
        return _named(table.domains)
    if by == "sample":
        pairs = zip(table.domains, table.cases, strict=True)
        return _named([f"{domain} / {case}" for domain, case in pairs])
    if by == "view":
        return _named([f"view {view}" if view else "as it is" for view in table.views.tolist()])
    if by == "class area":
        return _graded(table.areas.sum(1), "{:.0%} foreground")
    return _graded(np.asarray(table.dice, float), "Dice {:.2f}")


def _named(names: Sequence[str]) -> PointColors:
    known = {name: place for place, name in enumerate(dict.fromkeys(names))}
    index = np.array([known[name] % len(LINES) for name in names], np.intp)
    if len(known) > _MOST_NAMED:
        return PointColors(LINES, index, f"{len(known)} images, colours repeat; point at one")
    told = (_swatch(LINES[place % len(LINES)], name) for name, place in known.items())
    return PointColors(LINES, index, " &nbsp; ".join(told))


def _graded(values: NDArray[np.float64], form: str) -> PointColors:
    """From the lowest to the highest value; what has none is grey."""
    known = np.isfinite(values)
    index = np.full(len(values), len(_RAMP), np.intp)
    if not known.any():
        legend = _swatch(_UNKNOWN, "unknown: it needs masks")
        return PointColors((*_RAMP, _UNKNOWN), index, legend)
    low, high = float(values[known].min()), float(values[known].max())
    share = (values[known] - low) / ((high - low) or 1.0)
    index[known] = np.minimum(len(_RAMP) - 1, (share * len(_RAMP)).astype(np.intp))
    bar = "".join(f'<span style="color:{colour}">■</span>' for colour in _RAMP)
    legend = f"{form.format(low)} {bar} {form.format(high)}"
    if not known.all():
        legend += " &nbsp; " + _swatch(_UNKNOWN, "unknown")
    return PointColors((*_RAMP, _UNKNOWN), index, legend)


def _swatch(colour: str, words: str) -> str:
    return f'<span style="color:{colour}">●</span>&nbsp;{words.replace(" ", "&nbsp;")}'
