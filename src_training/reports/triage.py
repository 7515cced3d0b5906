"""The report of a triage: a table, HTML pages with thumbnails, and a list of files to review."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from src_training.evaluation.quality.table import SegmentedImage, head
from src_training.evaluation.quality.triage import TriagedFile
from src_training.inference.expected_dice import Quality
from src_training.io.atomic import write_text
from src_training.io.tables import Cell, csv_table, html_text
from src_training.reports.html import html_page

_ON_A_PAGE = 200
"""Number of files on a page; browsers stall on a page with thousands of thumbnails."""


@dataclass(frozen=True)
class TriageEntry:
    """A file with the expected Dice of its labels.

    Attributes
    ----------
    triaged
        Results of the file.
    image
        Table entry; None if the file could not be segmented.
    """

    triaged: TriagedFile
    image: SegmentedImage | None

    @property
    def remark(self) -> str:
        """Reason to review the file regardless of its expected Dice; empty if there is none."""
        if self.image is None:
            return self.triaged.error
        return self.image.expected.remark

    @property
    def order(self) -> tuple[bool, float]:
        """Sort key: files with a remark or an error first, then by expected Dice."""
        if self.image is None or self.image.expected.foreign:
            return False, -1.0
        return not self.remark, self.image.expected.value


def write_triage(
    folder: Path,
    entries: Sequence[TriageEntry],
    classes: Sequence[str],
    quality: Quality | None,
    share: float = 0.2,
) -> list[TriageEntry]:
    """Write ``triage.csv``, ``triage.html``, further pages of it, and ``review.txt``.

    Files are sorted, the worst first.

    Parameters
    ----------
    folder
        Folder of the triage.
    entries
        All files.
    classes, quality
        Fields of the model's card.
    share
        Share of the files to review; files with a remark are always included.

    Returns
    -------
    list of TriageEntry
        Files to review, the worst first.

    Raises
    ------
    OSError
        If a file cannot be written.
    """
    ranked = sorted(entries, key=lambda each: each.order)
    least = math.ceil(share * len(ranked))
    review = [each for rank, each in enumerate(ranked) if rank < least or each.remark]
    titles, chosen = head(classes), {id(each) for each in review}
    rows = []
    for rank, each in enumerate(ranked, start=1):
        if each.image is None:
            cells: list[Cell] = [None] * len(titles)
            cells[0] = each.triaged.file
            cells[titles.index("remark")] = each.remark
        else:
            cells = each.image.row(classes)
        notes = " ".join(each.triaged.notes)
        rows.append([rank, "yes" if id(each) in chosen else "", *cells, notes])
    table = csv_table(["rank", "review", *titles, "notes"], rows)
    write_text(folder / "triage.csv", table)
    write_text(folder / "review.txt", "".join(f"{each.triaged.file}\n" for each in review))
    pages = max(1, math.ceil(len(ranked) / _ON_A_PAGE))
    for page in range(pages):
        text = _page(folder.resolve().name, ranked, chosen, quality, page, pages)
        write_text(folder / _page_name(page), text)
    # An earlier triage of this folder may have written more pages.
    for path in folder.glob("triage-*.html"):
        if path.name not in {_page_name(page) for page in range(pages)}:
            path.unlink()
    return review


def _page_name(page: int) -> str:
    return f"triage-{page + 1}.html" if page else "triage.html"


def _page(
    name: str,
    ranked: Sequence[TriageEntry],
    review: set[int],
    quality: Quality | None,
    page: int,
    pages: int,
) -> str:
    start = page * _ON_A_PAGE
    shown = ranked[start : start + _ON_A_PAGE]
    part = "" if pages == 1 else f" Here: {start + 1:,} to {start + len(shown):,}."
    first = (
        f"{len(ranked):,} files, {len(review):,} to review.{part} What has a remark comes first, "
        "then by expected Dice: the agreement that these labels are expected to have with an "
        "expert's, from the model's probabilities alone."
    )
    second = (
        "The model file does not tell how expected Dice is corrected, so no interval is known."
        if quality is None
        else "In brackets its 90 % interval, from "
        f"{quality.images} validation images of the training source, plain and restyled. It "
        "cannot see an object that the model misses with confidence, nor experts who mark "
        "other things."
    )
    titles = ("", "file", "expected Dice", "remark", "")
    lines = [f"<tr>{''.join(f'<th>{title}</th>' for title in titles)}</tr>"]
    for each in shown:
        remarks = [text for text in (each.remark, *each.triaged.notes) if text]
        cells = (
            _picture(each.triaged),
            _link(each.triaged),
            "" if each.image is None else html_text(str(each.image.expected)),
            "<br>".join(html_text(text) for text in remarks),
            "review" if id(each) in review else "",
        )
        lines.append(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    body = [f"<p>{html_text(first)}</p>", f"<p><small>{html_text(second)}</small></p>"]
    links = [] if pages == 1 else [_links(page, pages)]
    return html_page(f"Triage {name}", [*body, *links, f"<table>{''.join(lines)}</table>", *links])


def _links(page: int, pages: int) -> str:
    """Links to all pages; the current one is bold text."""
    links = [
        f"<b>{i + 1}</b>" if i == page else f'<a href="{_page_name(i)}">{i + 1}</a>'
        for i in range(pages)
    ]
    return f"<p>Page {' '.join(links)}</p>"


def _picture(triaged: TriagedFile) -> str:
    if not triaged.thumbnail:
        return ""
    return f'<img loading="lazy" alt="" src="{quote(triaged.thumbnail)}">'


def _link(triaged: TriagedFile) -> str:
    name = html_text(Path(triaged.file).name)
    return f'<a href="{quote(triaged.labels)}">{name}</a>' if triaged.labels else name
