"""The controls of the Choose page; what they do is in `choose`."""

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_msankd.datasets.dataset_list import DatasetList
from napari_msankd.explore.encoder_fit import FitEncoderPanel
from napari_msankd.settings import preferences
from napari_msankd.training.monitor.run_combo import RunCombo
from napari_msankd.widgets.layout import make_primary, scroll_area
from napari_msankd.widgets.model_combo import ModelCombo
from napari_msankd.widgets.wrapping_label import WrappingLabel

if TYPE_CHECKING:
    from napari.components import ViewerModel

_WHAT = (
    "Why does a model work on one scanner and not on another, and will it work on yours? "
    "Choose a run or a model, and images; no masks are needed."
)
_DOMAINS = "Images to look at: a folder or open layers for each scanner or hospital."


class ExploreSetupForm(QWidget):
    """Everything a person sees of the Choose page.

    Parameters
    ----------
    viewer
        Whose layers are to be had, and whose theme is followed.
    """

    def __init__(self, viewer: "ViewerModel") -> None:
        super().__init__()
        self.viewer = viewer
        inner = QWidget()
        layout = QVBoxLayout(inner)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.setSpacing(6)
        layout.addWidget(WrappingLabel(_WHAT))
        layout.addLayout(self._rows())
        layout.addWidget(self.own_domains)
        self.domains = DatasetList(viewer, "optional", _DOMAINS)
        layout.addWidget(self.domains)
        layout.addStretch(1)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(4)
        whole.addWidget(scroll_area(inner), 1)
        whole.addLayout(self._below())
        make_primary(self.extract, viewer)

    def _rows(self) -> QFormLayout:
        self.run = RunCombo(preferences().runs)
        self.run.setToolTip("A finished run: its teacher, student alone and student distilled")
        self.with_run = QCheckBox()
        self.with_run.setChecked(True)
        self.with_run.setToolTip("Whether the models of this run are looked at")
        self.with_run.setAccessibleName("Look at the models of the run")
        self.model = ModelCombo(none="none beside the run")
        self.model.setToolTip("A model that ships, or a model file; beside the run's or alone")
        self.views = QSpinBox()
        self.views.setRange(0, 16)
        self.views.setToolTip(
            "Further views of every patch, as training makes them: each takes as long as the patch"
        )
        self.own_domains = QCheckBox("The &run's own domains")
        self.own_domains.setChecked(True)
        self.own_domains.setToolTip("What the run learnt from, and what it was tested on")
        row = QHBoxLayout()
        row.addWidget(self.with_run)
        row.addWidget(self.run, 1)
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        label = QLabel("R&un")
        label.setBuddy(self.run)
        form.addRow(label, row)
        form.addRow("&Model", self.model)
        form.addRow("&Views", self.views)
        return form

    def _below(self) -> QVBoxLayout:
        self.extract = QPushButton("&Extract vectors")
        self.extract.setToolTip("Encode every patch with every model; what was made is kept")
        self.stop = QPushButton("Sto&p")
        self.stop.setToolTip("Stop at the next image or step; vectors that were made are kept")
        self.stop.setEnabled(False)
        self.sample = QPushButton("Explore a s&ample")
        self.sample.setToolTip(
            "Synthetic eyes as three cameras see them, by the model that ships; made here, offline"
        )
        self.bar = QProgressBar()
        self.bar.hide()
        self.status = WrappingLabel()
        self.status.setToolTip("What happens, or what went wrong")
        self.offer = FitEncoderPanel()
        self.report = QPushButton("Rep&ort…")
        self.report.setToolTip("One page of HTML: projection, distances, images that stand out")
        self.report.hide()
        self.details = QPushButton("&Details…")
        self.details.setToolTip("Show the full traceback for a bug report")
        self.details.hide()
        row = QHBoxLayout()
        row.addWidget(self.extract, 2)
        row.addWidget(self.stop, 1)
        row.addWidget(self.sample, 2)
        layout = QVBoxLayout()
        layout.setContentsMargins(6, 0, 6, 6)
        layout.addLayout(row)
        layout.addWidget(self.bar)
        layout.addWidget(self.status)
        layout.addWidget(self.offer)
        for button in (self.report, self.details):
            layout.addWidget(button, alignment=Qt.AlignmentFlag.AlignLeft)
        return layout
