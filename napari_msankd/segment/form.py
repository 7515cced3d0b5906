"""The controls of the Segment widget; what they do is in `segment`."""

from typing import TYPE_CHECKING

from napari.layers import Image, Labels
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QDoubleSpinBox,
    QFrame,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QSlider,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_msankd.widgets.camera_angle import CameraAngle
from napari_msankd.widgets.layer_combo import LayerCombo
from napari_msankd.widgets.layout import group_box, make_primary, scroll_area
from napari_msankd.widgets.model_combo import ModelCombo
from napari_msankd.widgets.plugin_widget import PluginWidget
from napari_msankd.widgets.slice_selector import SliceSelector
from napari_msankd.widgets.wrapping_label import WrappingLabel

if TYPE_CHECKING:
    from napari.components import ViewerModel


class SegmentForm(PluginWidget):
    """Everything a person sees in the Segment widget.

    Parameters
    ----------
    viewer
        Whose layers the comboboxes follow.
    """

    def __init__(self, viewer: "ViewerModel") -> None:
        super().__init__(viewer)
        inside = QWidget()
        rows = QVBoxLayout(inside)
        rows.setContentsMargins(8, 8, 8, 8)
        rows.setSpacing(8)
        for part in (self._empty(), self._input(), self._buttons(), self._news(), self._output()):
            rows.addWidget(part)
        rows.addStretch(1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(scroll_area(inside))
        # What is in it takes 300 pixels; the rest is room for the scroll bar.
        self.setMinimumWidth(316)
        make_primary(self.run, viewer)

    def _empty(self) -> QWidget:
        self.empty = QFrame()
        words = WrappingLabel(
            "No image is open. Open one with File > Open, or begin with a sample."
        )
        self.sample = QPushButton("Open a sample &fundus")
        self.sample.setToolTip("A synthetic fundus photograph and its vessels; made here, offline")
        layout = QVBoxLayout(self.empty)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(words)
        layout.addWidget(self.sample)
        return self.empty

    def _input(self) -> QWidget:
        self.image = LayerCombo(self.viewer, Image)
        self.image.setToolTip(
            "Image to segment: colour or grey, a single one or a stack, also lazy or a pyramid"
        )
        self.slices = SliceSelector()
        self.model = ModelCombo()
        self.model.setToolTip("What segments; the last entry opens a model file")
        self.camera = CameraAngle()
        self.flips = QCheckBox("Average over &flips")
        self.flips.setToolTip(
            "Segment three mirrored copies too: a little better, four times slower"
        )
        self.outlook = WrappingLabel()
        self.outlook.setToolTip("What the model expects, and what this layer is")
        self.device = WrappingLabel()
        self.device.setToolTip("Where the network runs; change it under Preferences > Plugins")
        box, self.choices, below = group_box("Image and model")
        self.choices.addRow("&Image", self.image)
        self.choices.addRow("&Model", self.model)
        self.choices.addRow("&Camera", self.camera)
        self.choices.setRowVisible(self.camera, False)
        for part in (self.slices, self.flips, self.outlook, self.device):
            below.addWidget(part)
        return box

    def _buttons(self) -> QWidget:
        self.run = QPushButton("&Run")
        self.run.setToolTip("Segment the image into a new Labels layer")
        self.stop = QPushButton("&Stop")
        self.stop.setToolTip("Stop at the next tile and keep what is done")
        self.stop.setEnabled(False)
        row = QWidget()
        layout = QHBoxLayout(row)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.run, 3)
        layout.addWidget(self.stop, 1)
        return row

    def _news(self) -> QWidget:
        self.progress = QProgressBar()
        self.progress.setToolTip("Tiles done, and about how long the others take")
        self.progress.setTextVisible(True)
        self.progress.setVisible(False)
        self.status = WrappingLabel()
        self.status.setToolTip("What happens, or what went wrong")
        self.details = QPushButton("&Details…")
        self.details.setToolTip("Show the full traceback for a bug report")
        self.details.setVisible(False)
        part = QWidget()
        layout = QVBoxLayout(part)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.progress)
        layout.addWidget(self.status)
        layout.addWidget(self.details, alignment=Qt.AlignmentFlag.AlignLeft)
        return part

    def _output(self) -> QWidget:
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(1, 99)
        self.number = QDoubleSpinBox()
        self.number.setRange(0.01, 0.99)
        self.number.setSingleStep(0.01)
        self.number.setDecimals(2)
        self.number.setButtonSymbols(QDoubleSpinBox.ButtonSymbols.NoButtons)
        # napari's style wants room for the buttons that are not there, at the slider's expense.
        self.number.setStyleSheet(
            "QDoubleSpinBox { min-width: 34px; max-width: 34px; padding: 1px 2px; }"
        )
        self.number.setValue(0.5)
        self.slider.setValue(50)
        for control in (self.slider, self.number):
            control.setToolTip("Probability from which a pixel counts; acts at once, no new run")
        self.own_threshold = QToolButton()
        self.own_threshold.setText("↺")
        self.own_threshold.setEnabled(False)
        self.own_threshold.setToolTip(
            "Back to the threshold that suits the model, and the image where it can tell"
        )
        self.reference = LayerCombo(self.viewer, Labels, none="none")
        self.reference.setToolTip("Labels to compare with, such as those an expert painted")
        self.scores = WrappingLabel()
        self.scores.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.scores.setToolTip(
            "Over all pixels segmented: Dice and sensitivity, 1 is best; "
            "HD95, the 95th percentile of the distances between the outlines, 0 is best"
        )
        self.tune = QPushButton("T&une to a scanner…")
        self.tune.setToolTip(
            "Fit the model to another scanner by two labelled images of it; nothing is trained"
        )
        self.volumes = WrappingLabel()
        self.volumes.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.volumes.setToolTip("Volume of each class, of the slices segmented")
        self.solid = QPushButton("&3-D view")
        self.solid.setCheckable(True)
        self.solid.setToolTip("Show the result as a body, without the image; again for slices")
        self.solid.setVisible(False)
        box, form, below = group_box("Result")
        row = QHBoxLayout()
        row.addWidget(self.slider, 1)
        row.addWidget(self.number)
        row.addWidget(self.own_threshold)
        name = QLabel("&Threshold")
        name.setBuddy(self.slider)
        form.addRow(name, row)
        form.addRow("R&eference", self.reference)
        for part in (self.scores, self.tune, self.volumes, self.solid):
            below.addWidget(part)
        return box
