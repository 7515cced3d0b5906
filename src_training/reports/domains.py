"""HTML page on domains: verdict, semantic vectors, distances, and influential images."""

import math
from collections.abc import Mapping, Sequence

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
from src_training.explore.suitability import DomainSuitability, Suitability, format_spread
from src_training.formatting import format_number, format_range
from src_training.io.tables import html_table, html_text
from src_training.reports.html import html_page
from src_training.reports.svg import bars_svg, common_limits, group_colours, scatter_svg

MOST_IMAGES = 10
"""Largest number of images of a domain whose influence is shown."""


def domains_page(
    title: str,
    tables: Mapping[str, EmbeddingTable],
    source: str | None = None,
    *,
    method: Method = "pca",
    seed: int = 0,
    suitability: Suitability | None = None,
) -> str:
    """Return an HTML page with a verdict, projections, distances and influences for each model.

    Parameters
    ----------
    title
        Heading of the page.
    tables
        Model -> its vectors, of the same domains.
    source
        Domain that distances are measured from; None: the first.
    method, seed
        Projection; see `project`.
    suitability
        Verdict at the beginning of the page.

    Raises
    ------
    InputError
        If the models' vectors differ in length; see also `project`.
    """
    # Augmented views must not count as patches.
    plain = {model: table.where(view=0) for model, table in tables.items()}
    source = source or next(iter(plain.values())).domains[0]
    projection = project({model: table.values for model, table in plain.items()}, method, seed)
    parts = [] if suitability is None else _verdict(suitability)
    parts.append(_projections(plain, projection))
    for model, table in plain.items():
        matrix = distance_matrix(table)
        parts += [f"<h2>{html_text(model)}</h2>", *_distances(matrix, table, source)]
        parts += _influences(table, matrix, source)
    return html_page(title, parts)


def _verdict(suitability: Suitability) -> list[str]:
    """Sentences on each domain, then the numbers behind them."""
    parts = ["<h2>Will it work?</h2>"]
    for each in suitability.domains:
        claim, *others = (html_text(sentence) for sentence in suitability.sentences(each))
        parts.append(f"<p><b>{claim}</b><br>{'<br>'.join(others)}</p>")
    titles = (
        "domain",
        "images",
        "expected Dice",
        "real Dice",
        "FSD",
        "own images",
        "look at first",
    )
    rows = [_verdict_row(each) for each in suitability.domains]
    parts.append(html_table(titles, rows))
    notes = [
        "Expected Dice is the agreement with an expert that the model's own probabilities tell, "
        "corrected by validation images, with its 90 % interval. It cannot see an object missed "
        "with confidence, nor experts who mark other things."
    ]
    if suitability.fsd is not None:
        notes.append(suitability.fsd.method + " In brackets the 5th and 95th percentile.")
    return [*parts, *(f"<p><small>{html_text(note)}</small></p>" for note in notes)]


def _verdict_row(each: DomainSuitability) -> list[str]:
    spreads = [None, None] if each.fsd is None else [each.fsd.distance, each.fsd.own]
    return [
        each.domain,
        str(len(each.images)),
        str(each.expected),
        "" if each.dice is None else f"{each.dice:.3f}",
        *("" if spread is None else format_spread(spread) for spread in spreads),
        ", ".join(each.first),
    ]


def _projections(tables: Mapping[str, EmbeddingTable], projection: Projection) -> str:
    groups = {model: _groups(table) for model, table in tables.items()}
    colours = group_colours(list(dict.fromkeys(name for each in groups.values() for name in each)))
    limits = common_limits(list(projection.points.values()))
    figures = [
        f"<figure><figcaption>{html_text(model)}</figcaption>"
        + scatter_svg(
            f"Semantic vectors of {model}",
            projection.points[model],
            groups[model],
            [f"{name}, {case}" for name, case in zip(groups[model], table.cases, strict=True)],
            colours,
            limits,
        )
        + "</figure>"
        for model, table in tables.items()
    ]
    key = "".join(
        f'<i style="background:{colour}"></i>{html_text(name)}' for name, colour in colours.items()
    )
    caption = projection.caption
    if projection.explained is not None:
        caption += f"; the axes show {sum(projection.explained):.0%} of the variance"
    return (
        f'<h2>Semantic vectors</h2><p class="key">{key}</p><div class="row">'
        f"{''.join(figures)}</div><p><small>One point for each patch. "
        f"One projection for all models. {html_text(caption)}.</small></p>"
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
    head = "".join(f"<th>{html_text(name)}</th>" for name in matrix.names)
    rows = [f"<tr><th></th>{head}<th>vectors</th><th>Dice of patches</th></tr>"]
    for name, cells in zip(matrix.names, matrix.fsd, strict=True):
        distances = "".join(_cell(cell, highest) for cell in cells)
        score = f"{dice[name]:.3f}" if name in dice else ""
        rows.append(
            f"<tr><th>{html_text(name)}</th>{distances}<td>{counts[name]}</td><td>{score}</td></tr>"
        )
    notes = [f"<p>{html_text(warning)}</p>" for warning in matrix.warnings]
    if correlation := dice_correlation(matrix, dice, source):
        r, count = correlation
        notes.append(
            f"<p>Between the distance from {html_text(source)} and Dice, over {count} other "
            f"domains: Pearson's r = {r:.2f}.</p>"
        )
    return [
        "<h3>Fréchet semantic distance</h3>",
        f"<table>{''.join(rows)}</table>",
        "<p><small>In brackets: 95 % interval, for want of more patches.</small></p>",
        *notes,
    ]


def _cell(cell: FSD | None, highest: float) -> str:
    if cell is None:
        return "<td>too few</td>"
    strength = 0.6 * cell.value / highest if highest else 0.0
    value, ends = format_number(cell.value), format_range(cell.low, cell.high)
    interval = f"<br><small>[{ends}]</small>" if cell.has_interval else ""
    return f'<td style="background:rgba(213,94,0,{strength:.2f})">{value}{interval}</td>'


def _influences(table: EmbeddingTable, matrix: DistanceMatrix, source: str) -> list[str]:
    colours = group_colours(matrix.names)
    parts: list[str] = []
    for target in _targets(matrix, source):
        influences = leave_one_out_influence(table, source, target)
        defined = [each for each in influences if not math.isnan(each.value)]
        if not defined:
            parts.append(f"<p>{html_text(target)}: too few images to leave one out.</p>")
            continue
        title = f"Decrease of the distance of {target} from {source} without an image"
        shown = defined[:MOST_IMAGES]
        hidden = len(defined) - len(shown)
        more = f" {hidden} more images are not shown." if hidden else ""
        parts.append(
            f"<figure><figcaption>{html_text(target)}:{' the first' * bool(more)} {len(shown)} "
            f"images.{more}</figcaption>{bars_svg(title, shown, colours[target])}</figure>"
        )
    if not parts:
        return []
    return [
        "<h3>Images that push their domain away</h3>",
        f"<p><small>How much smaller the distance from {html_text(source)} would be without the "
        "image, and its share of that distance.</small></p>",
        f'<div class="row">{"".join(parts)}</div>',
    ]


def _targets(matrix: DistanceMatrix, source: str) -> Sequence[str]:
    return [
        name
        for name in matrix.names
        if name not in (source, MASKS) and matrix.between(source, name) is not None
    ]
