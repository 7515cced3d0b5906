"""The controls of the Prepare page; `setup_page` connects them."""

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QFormLayout,
    QHBoxLayout,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_msankd.datasets.dataset_list import DatasetList
from napari_msankd.training.network_selector import NetworkSelector, choices
from napari_msankd.training.run_request import RECOMMENDED
from napari_msankd.widgets.layout import VerticalScrollArea, group_box, make_primary
from napari_msankd.widgets.wrapping_label import WrappingLabel
from src_training.config.presets import PURPOSE

if TYPE_CHECKING:
    from napari.components import ViewerModel

_SOURCES = "Images with masks to train on: folders, or open layers and the labels painted on them."
_TARGETS = (
    "Images of other scanners or sites. They are not trained on: the result says how far they are "
    "from the sources (FSD), and the Dice on them if they have masks."
)
_UNLABELLED = (
    "On them the student learns from the teacher's predictions, which can help where few images "
    "have masks. Leave out images that you will test on."
)
TEACHERS = {
    "fanet": "FANet (default)",
    "wnet": "W-Net, wide: thin structures",
    "unet_plus_plus": "UNet++",
    "raunet": "RA-UNet",
    "pspnet": "PSPNet: large structures",
}
STUDENTS = {
    RECOMMENDED: "Recommended for the images",
    "wnet": "W-Net: thin structures (0.07 M)",
    "little_unet": "Little U-Net: smallest (from 0.03 M)",
    "enet": "ENet: large structures (0.35 M)",
    "mobile_unet": "Mobile U-Net: large structures (0.6 M)",
    "erfnet": "ERFNet: large structures (2.1 M)",
}
SUITS = {
    RECOMMENDED: "W-Net; for CT a Little U-Net of depth 5",
    "fanet": "teacher of GKD: features at full resolution; width 8 to 16 trains on a CPU",
    "wnet": "student for thin structures such as vessels: two little U-Nets at full resolution",
    "little_unet": "student with the fewest parameters, half of wnet; with depth 5 for organs: the "
    "default for CT",
    "enet": "student of GKD: the fewest operations; halves the image first, which loses thin "
    "vessels",
    "mobile_unet": "student of GKD: few operations; halves the image first, which loses thin "
    "vessels",
    "erfnet": "student of GKD: convolutions in one dimension, no skips",
    "raunet": "teacher of EMKD: skips weighted by attention",
    "pspnet": "teacher of EMKD for large structures: context from the whole image, logits at 1/8",
    "unet_plus_plus": "teacher of EMKD: nested skips up to full resolution",
}
"""Purpose of each network; copied from the registry of networks, whose import loads torch."""

KINDS = {
    "auto": "Auto-detect",
    "fundus": "Fundus photographs",
    "window": "CT in HU (soft tissue, -160 to 240)",
    "percentile": "Other (1st to 99th percentile)",
    "minmax": "Other (minimum to maximum)",
}
TIMES = {
    "quick": "Quick test",
    "standard": "Standard",
    "full": "Full (GPU recommended)",
}


class SetupForm(QWidget):
    """Controls for datasets, networks, time and name, and the buttons Start and Advanced.

    Parameters
    ----------
    viewer
        The viewer whose layers can be trained on.
    """

    def __init__(self, viewer: "ViewerModel") -> None:
        super().__init__()
        self.viewer = viewer
        inside = QWidget()
        rows = QVBoxLayout(inside)
        rows.setContentsMargins(6, 6, 6, 6)
        rows.setSpacing(6)
        for part in (*self._datasets(), self._networks()):
            rows.addWidget(part)
        rows.addStretch(1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(VerticalScrollArea(inside), 1)
        layout.addWidget(self._foot())
        make_primary(self.start, viewer)

    def _datasets(self) -> list[QWidget]:
        self.sources = DatasetList(self.viewer, "required", _SOURCES)
        self.targets = DatasetList(self.viewer, "optional", _TARGETS)
        self.unlabelled = DatasetList(self.viewer, "unused", _UNLABELLED)
        titles = {
            "Sources": self.sources,
            "Targets (optional)": self.targets,
            "Images without masks (optional)": self.unlabelled,
        }
        boxes = []
        for title, part in titles.items():
            box, _, below = group_box(title)
            below.addWidget(part)
            boxes.append(box)
        self.sources.add()
        return boxes

    def _networks(self) -> QWidget:
        self.teacher = NetworkSelector(TEACHERS, "Teacher", is_teacher=True)
        self.student = NetworkSelector(STUDENTS, "Student")
        for row, titles in ((self.teacher, TEACHERS), (self.student, STUDENTS)):
            row.network.tooltip = "\n".join(f"{titles[name]}: {SUITS[name]}" for name in titles)
            for index, name in enumerate(titles):
                tip = Qt.ItemDataRole.ToolTipRole
                row.network.native.setItemData(index, SUITS[name], tip)
        self.kind = choices(KINDS, "Images are")
        self.kind.tooltip = "How images are prepared before a network sees them"
        box, form, _ = group_box("Networks")
        form.addRow("Tea&cher", self.teacher)
        form.addRow("Stude&nt", self.student)
        form.addRow("&Images are", self.kind.native)
        return box

    def _foot(self) -> QWidget:
        """The part below the scroll area: name, time, cost, buttons, status."""
        self.time = choices(TIMES, "Time")
        self.time.tooltip = "How large the teacher is, and how long both networks are trained"
        for index, time in enumerate(TIMES):
            self.time.native.setItemData(index, PURPOSE[time], Qt.ItemDataRole.ToolTipRole)
        self.cost, self.name_note = WrappingLabel(), WrappingLabel()
        self.cost.setToolTip("Measured by a few real steps of every stage on this machine")
        self.name = QLineEdit()
        self.name.setToolTip("Name of the run and of its model")
        self.name_note.setToolTip("Name of the run's folder and of the model's file")
        self.bar = QProgressBar()
        self.bar.setToolTip("How many parts of the estimate are measured")
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(6)
        self.advanced = QPushButton("&Advanced…")
        self.advanced.setToolTip("The whole recipe, as a form and as YAML; load and save it")
        self.start = QPushButton("S&tart")
        self.status = WrappingLabel()
        self.status.setToolTip("What happens, or what is missing")
        rows = QFormLayout()
        rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        rows.addRow("Na&me", self.name)
        rows.addRow("Tim&e", self.time.native)
        buttons = QHBoxLayout()
        buttons.addWidget(self.start, 2)
        buttons.addWidget(self.advanced, 1)
        foot = QWidget()
        layout = QVBoxLayout(foot)
        layout.setContentsMargins(6, 0, 6, 6)
        layout.setSpacing(4)
        layout.addLayout(rows)
        for line in (self.name_note, self.cost, self.bar):
            layout.addWidget(line)
        layout.addLayout(buttons)
        layout.addWidget(self.status)
        self.bar.hide()
        return foot

    def show_progress(self, done: int, total: int) -> None:
        """Show the progress of the estimate; a total of 0 hides the bar."""
        self.bar.setRange(0, max(1, total))
        self.bar.setValue(done)
        self.bar.setVisible(total > 0)
