"""Tables of expected Dice beside labels: a line for each file, and for each slice of a stack."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from src_training.inference.expected_dice import (
    ExpectedDice,
    Quality,
    Sums,
    compare_with_source,
    expected_by_class,
    expected_dice,
    expected_sizes,
)
from src_training.io.atomic import write_text
from src_training.io.tables import Cell, csv_table

TABLE = "expected_dice.csv"
"""Name of the table in a folder of labels."""

HEAD = (
    "file",
    "labels",
    "slices",
    "expected Dice",
    "low",
    "high",
    "soft Dice confidence",
    "remark",
)


@dataclass(frozen=True)
class SegmentedImage:
    """How good the labels of a file are expected to be.

    Attributes
    ----------
    file, labels
        The image, stack or volume, and the name of its labels.
    sums
        (slices, K - 1, 4), see `label_sums`.
    expected
        Of all slices together.
    quality
        From the card of the model.
    voxel
        Volume of a voxel, ml; None for what has none.
    foreign
        Of each slice, see `are_foreign`; empty where it is not known.
    """

    file: str
    labels: str
    sums: Sums
    expected: ExpectedDice
    quality: Quality | None = None
    voxel: float | None = None
    foreign: tuple[bool, ...] = ()

    @classmethod
    def of(
        cls,
        file: Path,
        labels: Path,
        sums: Sums,
        quality: Quality | None,
        voxel: float | None = None,
        foreign: Sequence[bool] = (),
    ) -> "SegmentedImage":
        """That of a file, from the sums of its slices."""
        expected = expected_dice(sums.sum(0), quality, foreign)
        return cls(str(file), labels.name, sums, expected, quality, voxel, tuple(foreign))

    def sentence(self, scanner: str) -> str:
        """Expected Dice, compared with that of the source, and what to know of it.

        Parameters
        ----------
        scanner
            See `ModelCard.scanner`.
        """
        compared = compare_with_source(self.expected, self.quality)
        parts = [
            f"expected Dice {self.expected}",
            "" if compared is None else compared.phrase(scanner),
        ]
        return ", ".join(filter(None, [*parts, self.expected.remark]))

    def row(self, classes: Sequence[str]) -> list[Cell]:
        """Cells of the table; `head` has their titles."""
        total = self.sums.sum(0)
        cells = [self.file, self.labels, len(self.sums), *_cells(self.expected)]
        if len(classes) > 2:
            for each in expected_by_class(total, self.quality, classes).values():
                cells += [each.value, each.low, each.high]
        for row, size in zip(total, expected_sizes(total, self.quality), strict=True):
            cells += [int(row[0]), size.value, size.low, size.high]
            counts = (row[0], size.value, size.low, size.high)
            cells += [None if self.voxel is None else each * self.voxel for each in counts]
        return cells

    def slices_table(self, classes: Sequence[str]) -> str:
        """CSV with a line for each slice, from 0."""
        sizes = ("pixels", "expected pixels", "low pixels", "high pixels")
        head = ["slice", *HEAD[3:], *(f"{size}, {name}" for name in classes[1:] for size in sizes)]
        rows = list[list[Cell]]()
        for index, sums in enumerate(self.sums):
            expected = expected_dice(sums, self.quality, self.foreign[index : index + 1])
            row: list[Cell] = [index, *_cells(expected)]
            for count, size in zip(sums[:, 0], expected_sizes(sums, self.quality), strict=True):
                row += [int(count), size.value, size.low, size.high]
            rows.append(row)
        return csv_table(head, rows)


def head(classes: Sequence[str]) -> list[str]:
    """Titles of the cells of `SegmentedImage.row`."""
    titles = [*HEAD]
    if len(classes) > 2:
        for name in classes[1:]:
            titles += [f"expected Dice, {name}", f"low, {name}", f"high, {name}"]
    for name in classes[1:]:
        for unit in ("pixels", "ml"):
            titles += [f"{unit}, {name}"]
            titles += [f"{what} {unit}, {name}" for what in ("expected", "low", "high")]
    return titles


def write_table(folder: Path, images: Iterable[SegmentedImage], classes: Sequence[str]) -> Path:
    """Write or update the table of a folder of labels, and one beside the labels of each stack.

    Lines of other files in a table of the same columns stay.

    Raises
    ------
    OSError
        If a table cannot be written.
    """
    path, titles = folder / TABLE, head(classes)
    lines = _former(path, titles)
    for image in images:
        row = image.row(classes)
        lines[_shown(image.labels)] = row
        if len(image.sums) > 1:
            stem = Path(image.labels.removesuffix(".gz")).stem
            write_text(folder / f"{stem}_{TABLE}", image.slices_table(classes))
    write_text(path, csv_table(titles, lines.values()))
    return path


def _former(path: Path, titles: Sequence[str]) -> dict[str, list[Cell]]:
    """Lines of a table that is there already, by the name of the labels."""
    if not path.exists():
        return {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [*csv.reader(file)]
    except (csv.Error, UnicodeDecodeError):  # no table of ours
        return {}
    if not rows or rows[0] != [_shown(title) for title in titles]:
        return {}
    return {row[1]: [*row] for row in rows[1:] if len(row) == len(titles)}


def _shown(name: str) -> str:
    """A name as a cell of a CSV table has it."""
    return next(csv.reader([csv_table([name], [])]))[0]


def _cells(expected: ExpectedDice) -> list[Cell]:
    known = None if expected.foreign else expected.value
    return [
        known,
        expected.low,
        expected.high,
        expected.confidence,
        expected.remark,
    ]
