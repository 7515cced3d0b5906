"""An editor of a weighted choice: which of several things are summed, and how much each counts."""

from collections.abc import Mapping
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QGridLayout, QWidget

from napari_msankd.recipe.fields import NumberField


class WeightsField(QWidget):
    """A tick and a weight for each.

    Parameters
    ----------
    choices
        Name -> what it is, in words.
    """

    changed = Signal()

    def __init__(self, choices: Mapping[str, str]) -> None:
        super().__init__()
        self.rows: dict[str, tuple[QCheckBox, NumberField]] = {}
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setVerticalSpacing(2)
        for row, (name, words) in enumerate(choices.items()):
            tick, weight = QCheckBox(name.replace("_", " ")), NumberField()
            tick.setToolTip(words)
            weight.setToolTip(f"Weight of {words}")
            weight.setAccessibleName(f"weight of {name}")
            weight.setMaximumWidth(70)
            weight.setEnabled(False)
            weight.value = 1.0
            tick.toggled.connect(weight.setEnabled)
            tick.toggled.connect(self.changed)
            weight.changed.connect(self.changed)
            grid.addWidget(tick, row, 0)
            grid.addWidget(weight, row, 1)
            self.rows[name] = tick, weight
        grid.setColumnStretch(2, 1)

    @property
    def value(self) -> dict[str, Any]:
        """Weight of each that is ticked."""
        return {
            name: weight.value for name, (tick, weight) in self.rows.items() if tick.isChecked()
        }

    @value.setter
    def value(self, value: Mapping[str, float]) -> None:
        for name, (tick, weight) in self.rows.items():
            tick.setChecked(name in value)
            weight.value = value.get(name, 1.0)
