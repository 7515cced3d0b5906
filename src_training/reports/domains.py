"""One page on how models see domains: vectors, distances, and the images behind them."""

import math
from collections.abc import Mapping, Sequence
from html import escape

from src_training.explore.embedding_table import EmbeddingTable
from src_training.explore.fsd import FSD
from src_training.explore.fsd_influence import leave_one_out_influence
from src_training.explore.fsd_matrix import (
    MASKS,
    DistanceMatrix,
    dice_by_domain,
    dice_correlation,
    distance_matrix,
    vector_sets,
)
from src_training.explore.projection import Method, Projection, project
from src_training.reports.html import html_page
from src_training.reports.svg import bars_svg, colours_of, range_of, scatter_svg

SHOWN = 10
"""Most images of a domain whose contribution is shown."""


def report_page(
    title: str,
    tables: Mapping[str, EmbeddingTable],
    source: str | None = None,
    *,
    method: Method = "pca",
    seed: int = 0,
) -> str:
    """An HTML page that needs no other file.

    Parameters
    ----------
    title
        Its heading.
    tables
        Model -> its vectors, of the same domains.
    source
        The domain the others are measured from; the first when missing.
    method, seed
        See `project`.

    Raises
    ------
    InputError
        If the models' vectors differ in length; see also `project`.
    """
    named = {model: _as_they_are(table) for model, table in tables.items()}
    first = next(iter(named.values()))
    source = source or first.domains[0]
    projection = project({model: each.values for model, each in named.items()}, method, seed)
    parts = [_pictures(named, projection)]
    for model, table in named.items():
        matrix = distance_matrix(table)
        parts += [f"<h2>{escape(model)}</h2>", *_distances(matrix, table, source)]
        parts += _pushing_away(table, matrix, source)
    return html_page(title, parts)


def _as_they_are(table: EmbeddingTable) -> EmbeddingTable:
    """Patches and masks without augmented views."""
    return table.where(view=0)


def _pictures(tables: Mapping[str, EmbeddingTable], projection: Projection) -> str:
    groups = {model: _groups(table) for model, table in tables.items()}
    colours = colours_of(list(dict.fromkeys(name for each in groups.values() for name in each)))
    shown = range_of(list(projection.points.values()))
    figures = [
        f"<figure><figcaption>{escape(model)}</figcaption>"
        + scatter_svg(
            f"Semantic vectors of {model}",
            projection.points[model],
            groups[model],
            [f"{name}, {case}" for name, case in zip(groups[model], table.cases, strict=True)],
            colours,
            shown,
        )
        + "</figure>"
        for model, table in tables.items()
    ]
    key = "".join(
        f'<i style="background:{colour}"></i>{escape(name)}' for name, colour in colours.items()
    )
    told = projection.caption
    if projection.explained is not None:
        told += f"; the axes show {sum(projection.explained):.0%} of the variance"
    return (
        f'<h2>Semantic vectors</h2><p class="key">{key}</p><div class="row">'
        f"{''.join(figures)}</div><p><small>One point for each patch. "
        f"One projection for all models. {escape(told)}.</small></p>"
    )


def _groups(table: EmbeddingTable) -> list[str]:
    return [
        MASKS if kind == "mask" else domain
        for domain, kind in zip(table.domains, table.kinds, strict=True)
    ]


def _distances(matrix: DistanceMatrix, table: EmbeddingTable, source: str) -> list[str]:
    counts = {name: len(rows) for name, rows in vector_sets(table).items()}
    dice = dice_by_domain(table)
    highest = max((cell.value for row in matrix.fsd for cell in row if cell), default=0.0)
    head = "".join(f"<th>{escape(name)}</th>" for name in matrix.names)
    rows = [f"<tr><th></th>{head}<th>vectors</th><th>Dice of patches</th></tr>"]
    for name, cells in zip(matrix.names, matrix.fsd, strict=True):
        told = "".join(_cell(cell, highest) for cell in cells)
        scored = f"{dice[name]:.3f}" if name in dice else ""
        rows.append(
            f"<tr><th>{escape(name)}</th>{told}<td>{counts[name]}</td><td>{scored}</td></tr>"
        )
    said = [f"<p>{escape(warning)}</p>" for warning in matrix.warnings]
    if related := dice_correlation(matrix, dice, source):
        said.append(
            f"<p>Between the distance from {escape(source)} and Dice, over {related[1]} other "
            f"domains: Pearson's r = {related[0]:.2f}.</p>"
        )
    return [
        "<h3>Fréchet semantic distance</h3>",
        f"<table>{''.join(rows)}</table>",
        "<p><small>In brackets: 95 % interval, for want of more patches.</small></p>",
        *said,
    ]


def _cell(cell: FSD | None, highest: float) -> str:
    if cell is None:
        return "<td>too few</td>"
    strength = 0.6 * cell.value / highest if highest else 0.0
    interval = f"<br><small>[{cell.low:.3g}, {cell.high:.3g}]</small>" if cell.has_interval else ""
    return f'<td style="background:rgba(213,94,0,{strength:.2f})">{cell.value:.3g}{interval}</td>'


def _pushing_away(table: EmbeddingTable, matrix: DistanceMatrix, source: str) -> list[str]:
    colours = colours_of(matrix.names)
    parts: list[str] = []
    for target in _targets(matrix, source):
        found = leave_one_out_influence(table, source, target)
        known = [each for each in found if not math.isnan(each.value)]
        if not known:
            parts.append(f"<p>{escape(target)}: too few images to leave one out.</p>")
            continue
        title = f"What {target} would be nearer to {source} without an image"
        shown = known[:SHOWN]
        more = f" {len(known) - SHOWN} more images are not shown." if len(known) > SHOWN else ""
        parts.append(
            f"<figure><figcaption>{escape(target)}:{' the first' * bool(more)} {len(shown)} "
            f"images.{more}</figcaption>{bars_svg(title, shown, colours[target])}</figure>"
        )
    if not parts:
        return []
    return [
        "<h3>Images that push their domain away</h3>",
        f"<p><small>How much smaller the distance from {escape(source)} would be without the "
        "image, and its share of that distance.</small></p>",
        f'<div class="row">{"".join(parts)}</div>',
    ]


def _targets(matrix: DistanceMatrix, source: str) -> Sequence[str]:
    return [
        name
        for name in matrix.names
        if name not in (source, MASKS) and matrix.between(source, name) is not None
    ]
