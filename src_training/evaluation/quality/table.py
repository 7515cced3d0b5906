"""CSV tables of expected Dice in a folder of labels: a row for each file, or for each slice."""

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
    """Expected Dice of the labels of a file.

    Attributes
    ----------
    file, labels
        Path of the image, stack or volume, and name of its labels.
    sums
        `label_sums` of each slice, (slices, K - 1, 4).
    expected
        Expected Dice of all slices together.
    quality
        Correction from the model card.
    voxel
        Volume of a voxel in ml; None if unknown.
    foreign
        Whether each slice is foreign (see `are_foreign`); empty if unknown.
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
        """Create the entry of a file from the sums of its slices."""
        expected = expected_dice(sums.sum(0), quality, foreign)
        return cls(str(file), labels.name, sums, expected, quality, voxel, tuple(foreign))

    def sentence(self, scanner: str) -> str:
        """Describe the expected Dice, its comparison with the source, and its remark.

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
        """Return the cells of the file's row; see `head` for their titles."""
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
        """Return a CSV table with a row for each slice, numbered from 0."""
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
    """Return the titles of the cells of `SegmentedImage.row`."""
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
    """Write or update the table of a folder of labels, and write one of slices for each stack.

    Rows of other files are kept if the table has the same columns.

    Raises
    ------
    OSError
        If a table cannot be written.
    """
    path, titles = folder / TABLE, head(classes)
    rows = _read_rows(path, titles)
    for image in images:
        rows[_as_cell(image.labels)] = image.row(classes)
        if len(image.sums) > 1:
            stem = Path(image.labels.removesuffix(".gz")).stem
            write_text(folder / f"{stem}_{TABLE}", image.slices_table(classes))
    write_text(path, csv_table(titles, rows.values()))
    return path


def _read_rows(path: Path, titles: Sequence[str]) -> dict[str, list[Cell]]:
    """Name of the labels -> row of an existing table; empty if its columns differ."""
    if not path.exists():
        return {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [*csv.reader(file)]
    except (csv.Error, UnicodeDecodeError):  # not a table of this package
        return {}
    if not rows or rows[0] != [_as_cell(title) for title in titles]:
        return {}
    return {row[1]: [*row] for row in rows[1:] if len(row) == len(titles)}


def _as_cell(name: str) -> str:
    """A name as it is read back from a cell of `csv_table`, which may escape it."""
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
