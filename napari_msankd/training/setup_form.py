"""The controls of the Prepare page; what they do is in `prepare`."""

from typing import TYPE_CHECKING

from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_msankd.datasets.dataset_list import DatasetList
from napari_msankd.datasets.selector import DatasetSelector
from napari_msankd.widgets.layout import elide_combo, group_box, make_primary, scroll_area
from napari_msankd.widgets.model_combo import ModelCombo
from napari_msankd.widgets.wrapping_label import WrappingLabel

if TYPE_CHECKING:
    from napari.components import ViewerModel

STUDENTS = {
    "enet": "ENet: the lightest",
    "mobile_unet": "Mobile U-Net: with skips",
    "erfnet": "ERFNet: the largest",
}
KINDS = {
    "auto": "what the first one looks like",
    "fundus": "fundus photographs",
    "window": "CT in HU: soft tissue, -160 to 240",
    "percentile": "others: 1st to 99th percentile",
    "minmax": "others: minimum to maximum",
}
_TARGETS = (
    "Images of other scanners or sites, for testing only: how far they are from the source (FSD) "
    "and, where they have masks, how well the network does there."
)
TIMES = {
    "quick": "quick look: does everything fit together?",
    "standard": "standard: a model to use",
    "full": "full size: for a graphics card",
}


class SetupForm(QWidget):
    """Source, targets, student and time; Start.

    Parameters
    ----------
    viewer
        Whose layers can be learned from.
    """

    def __init__(self, viewer: "ViewerModel") -> None:
        super().__init__()
        self.viewer = viewer
        inside = QWidget()
        rows = QVBoxLayout(inside)
        rows.setContentsMargins(6, 6, 6, 6)
        rows.setSpacing(6)
        for part in (self._domains(), self._student()):
            rows.addWidget(part)
        rows.addStretch(1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(scroll_area(inside), 1)
        layout.addWidget(self._foot())
        make_primary(self.start, viewer)

    def _domains(self) -> QWidget:
        self.source = DatasetSelector(self.viewer, "required")
        self.targets = DatasetList(self.viewer, "optional", _TARGETS)
        self.kind = _offered(KINDS)
        self.kind.setToolTip("How every image is prepared before a network sees it")
        parts = QWidget()
        rows = QVBoxLayout(parts)
        rows.setContentsMargins(0, 0, 0, 0)
        for title, part in (("Source: what to learn from", self.source), ("Targets", self.targets)):
            box, _, below = group_box(title)
            below.addWidget(part)
            rows.addWidget(box)
        self.clash = WrappingLabel()
        self.clash.setToolTip("What the source and a target have in common")
        below.addWidget(self.clash)
        return parts

    def _student(self) -> QWidget:
        self.student = _offered(STUDENTS)
        self.student.setToolTip(
            "The small network that the run is for: Mobile U-Net has 0.6 M weights, ENet 0.35 M, "
            "ERFNet 2.1 M"
        )
        self.start_from = ModelCombo(none="nothing: random weights")
        self.start_from.setToolTip("A model of the same network to go on from: fine-tuning")
        box, form, _ = group_box("Student")
        form.addRow("Net&work", self.student)
        form.addRow("Start &from", self.start_from)
        form.addRow("&Images are", self.kind)
        return box

    def _foot(self) -> QWidget:
        """What is always in sight: how long, what it costs, Start."""
        self.time = _offered(TIMES)
        self.time.setToolTip("How large the networks are, and how long they learn")
        self.name = QLineEdit("student")
        self.name.setToolTip("Name of the run's folder and of the model")
        self.cost = WrappingLabel()
        self.cost.setToolTip("Measured by a few real steps on this machine")
        self.advanced = QPushButton("&Advanced…")
        self.advanced.setToolTip("The whole recipe, as a form and as YAML; load and save it")
        self.start = QPushButton("S&tart")
        self.start.setToolTip("Train and distil in a process of its own; the window stays free")
        self.status = WrappingLabel()
        self.status.setToolTip("What happens, or what is in the way")
        foot, rows = QWidget(), QFormLayout()
        rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        rows.addRow("&Name", self.name)
        rows.addRow("Ti&me", self.time)
        buttons = QHBoxLayout()
        buttons.addWidget(self.start, 2)
        buttons.addWidget(self.advanced, 1)
        layout = QVBoxLayout(foot)
        layout.setContentsMargins(6, 0, 6, 6)
        layout.addLayout(rows)
        layout.addWidget(self.cost)
        layout.addLayout(buttons)
        layout.addWidget(self.status)
        return foot


def _offered(words: dict[str, str]) -> QComboBox:
    """A combobox of words, each with its name as data."""
    box = QComboBox()
    elide_combo(box)
    for name, said in words.items():
        box.addItem(said, name)
    return box
