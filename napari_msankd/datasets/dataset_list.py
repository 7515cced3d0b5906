"""A list of datasets: the sources of a run, its targets, or its images without masks."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from napari_msankd.datasets.selection import Dataset, FolderDataset, Masks
from napari_msankd.datasets.selector import DatasetSelector, path_of
from napari_msankd.widgets.wrapping_label import WrappingLabel

if TYPE_CHECKING:
    from napari.components import ViewerModel


class DatasetList(QWidget):
    """A list of datasets, each with a button that removes it.

    Parameters
    ----------
    viewer
        The viewer whose layers can be chosen.
    masks
        Purpose of the images; see `Masks`.
    text
        Hint that is shown while the list is empty.

    Attributes
    ----------
    changed
        Emitted whenever `value` may have changed.
    """

    changed = Signal()

    def __init__(self, viewer: "ViewerModel", masks: Masks = "optional", text: str = "") -> None:
        super().__init__()
        self.viewer = viewer
        self.masks: Masks = masks
        self.choices: list[DatasetSelector] = []
        self.setAcceptDrops(True)
        self.words = WrappingLabel()
        self.words.setToolTip("What these images are for")
        self.add_folder = QPushButton("Add folder…")
        self.add_folder.setToolTip("A folder with images/, perhaps masks/; it can be dropped here")
        self.add_layers = QPushButton("Add open layers")
        self.add_layers.setToolTip("Image layers that are open, perhaps with Labels")
        self.add_folder.clicked.connect(self._on_add_folder)
        self.add_layers.clicked.connect(self._on_add_layers)
        buttons = QHBoxLayout()
        buttons.setSpacing(4)
        buttons.addWidget(self.add_folder)
        buttons.addWidget(self.add_layers)
        buttons.addStretch(1)
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(6)
        self._layout.addWidget(self.words)
        self._layout.addLayout(buttons)
        self.words.setText(text)

    @property
    def looking(self) -> bool:
        """Whether any dataset is being read."""
        return any(choice.looking for choice in self.choices)

    @property
    def problems(self) -> tuple[str, ...]:
        """Problems of all datasets, a sentence each."""
        return tuple(sentence for choice in self.choices for sentence in choice.problems)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes of the first dataset with masks, background first."""
        return next((choice.classes for choice in self.choices if choice.classes), ())

    def value(self) -> list[Dataset] | None:
        """The datasets with unique names; None if any is being read or cannot be used."""
        values = [choice.value() for choice in self.choices]
        chosen = [value for value in values if value is not None]
        return _with_distinct_names(chosen) if len(chosen) == len(values) else None

    def add(self, folder: Path | None = None) -> DatasetSelector:
        """Add a dataset: a folder, or else the open layers."""
        choice = DatasetSelector(self.viewer, self.masks)
        if folder is not None:
            choice.choose_folder(folder)
        remove = QPushButton("✕")
        remove.setToolTip("Remove these images")
        remove.setAccessibleName("Remove these images")
        remove.setFixedWidth(28)
        remove.clicked.connect(lambda: self.remove(choice))
        choice.line.addWidget(remove)
        choice.changed.connect(self.changed)
        self._layout.insertWidget(self._layout.count() - 1, choice)
        self.choices.append(choice)
        self.words.hide()
        self.changed.emit()
        return choice

    def remove(self, choice: DatasetSelector) -> None:
        """Remove a dataset."""
        choice.end()
        self.choices.remove(choice)
        self._layout.removeWidget(choice)
        choice.hide()
        choice.deleteLater()
        self.words.setVisible(not self.choices)
        self.changed.emit()

    def end(self) -> None:
        """End all selectors, when the widget or napari closes."""
        for choice in self.choices:
            choice.end()

    def _on_add_folder(self) -> None:
        name = QFileDialog.getExistingDirectory(self, "A folder with images/, perhaps masks/")
        if name:
            self.add(Path(name))

    def _on_add_layers(self) -> None:
        self.add()

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Accept a folder on the area between the datasets, too."""
        if path_of(event) is not None:
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        """Add the folder."""
        path = path_of(event)
        if path is not None:
            event.acceptProposedAction()
            self.add(path)


def _with_distinct_names(datasets: list[Dataset]) -> list[Dataset]:
    """Make names unique: add the parent to names of folders, then number the rest."""
    counts = Counter(dataset.name for dataset in datasets)
    taken, named = Counter[str](), list[Dataset]()
    for dataset in datasets:
        if counts[dataset.name] > 1 and isinstance(dataset, FolderDataset):
            parent = dataset.path.resolve().parent.name
            dataset = replace(dataset, name=f"{parent} {dataset.name}")
        taken[dataset.name] += 1
        number = taken[dataset.name]
        named.append(dataset if number == 1 else replace(dataset, name=f"{dataset.name} {number}"))
    return named
