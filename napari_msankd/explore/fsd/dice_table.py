"""Dice of every domain beside its distance, and how the two go together."""

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QHeaderView, QTableWidget, QTableWidgetItem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from src_training.explore.fsd_matrix import DistanceMatrix


_FEW = 10


class DiceTable(QTableWidget):
    """A row for each domain: vectors, FSD to the first, Dice of its patches."""

    def __init__(self) -> None:
        super().__init__(0, 4)
        self.verticalHeader().hide()
        self.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        self.setToolTip(
            "FSD to the first domain; Dice is the mean over patches, where there are masks"
        )

    def draw(self, matrix: "DistanceMatrix", dice: "Mapping[str, float]") -> None:
        """Show the domains of a matrix; masks are none."""
        self.setHorizontalHeaderLabels(["domain", "vectors", "FSD", "Dice"])
        header = self.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        rows = [(place, name) for place, name in enumerate(matrix.names) if name != "masks"]
        self.setRowCount(len(rows))
        for row, (place, name) in enumerate(rows):
            found = matrix.fsd[0][place]
            score = dice.get(name, float("nan"))
            cells = (
                name,
                "< 2" if found is None else f"{found.n_b}",
                "—" if found is None else f"{found.value:.3g}",
                "—" if score != score else f"{score:.3f}",
            )
            for column, text in enumerate(cells):
                item = QTableWidgetItem(text)
                side = Qt.AlignmentFlag.AlignRight if column else Qt.AlignmentFlag.AlignLeft
                item.setTextAlignment(side | Qt.AlignmentFlag.AlignVCenter)
                self.setItem(row, column, item)


def agreement(first: str, found: tuple[float, int] | None) -> str:
    """How Dice and FSD to the first domain go together, in words."""
    if found is None:
        return f"FSD is to {first}. Too few domains with masks to say whether Dice falls with it."
    r, count = found
    few = "; so few prove nothing" if count < _FEW else ""
    return f"FSD is to {first}. Dice and FSD: Pearson r = {r:.2f} over {count} domains{few}."
