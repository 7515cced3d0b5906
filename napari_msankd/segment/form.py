"""The controls of the Segment widget, drawn from its state; `widget` connects them."""

from typing import TYPE_CHECKING

from napari.layers import Image, Labels
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QFrame,
    QHBoxLayout,
    QProgressBar,
    QPushButton,
    QToolButton,
    QVBoxLayout,
    QWidget,
)
from superqt import QLabeledDoubleSlider
from superqt.utils import signals_blocked

from napari_msankd.formatting import short_name
from napari_msankd.layers import layer_by_id
from napari_msankd.segment.slice_plot import SlicePlot
from napari_msankd.segment.slice_selector import SliceSelector
from napari_msankd.segment.state import SegmentState, empty_text, stack_shape
from napari_msankd.widgets.camera_angle import CameraAngle
from napari_msankd.widgets.layer_combo import LayerCombo
from napari_msankd.widgets.layout import VerticalScrollArea, buddy_label, group_box, make_primary
from napari_msankd.widgets.model_combo import ModelCombo
from napari_msankd.widgets.plugin_widget import PluginWidget
from napari_msankd.widgets.wrapping_label import WrappingLabel

if TYPE_CHECKING:
    from napari.components import ViewerModel

_STEPS = 1000


class SegmentForm(PluginWidget):
    """The controls of the Segment widget.

    Parameters
    ----------
    viewer
        The viewer whose layers can be chosen.
    """

    def __init__(self, viewer: "ViewerModel") -> None:
        super().__init__(viewer)
        inside = QWidget()
        rows = QVBoxLayout(inside)
        rows.setContentsMargins(8, 8, 8, 8)
        rows.setSpacing(8)
        self.folder = QPushButton("Segment a f&older…")
        self.folder.setToolTip("Segment a folder, and review the least certain results first")
        parts = self._empty(), self._input(), self._buttons(), self._run_status(), self._output()
        for part in (*parts, self.folder):
            rows.addWidget(part)
        rows.addStretch(1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(VerticalScrollArea(inside))
        make_primary(self.run, viewer)

    def _empty(self) -> QWidget:
        self.empty = QFrame()
        self.empty_text = WrappingLabel()
        self.sample = QPushButton("Open a sample &photograph")
        self.sample.setToolTip("A synthetic fundus photograph and its vessels; works offline")
        self.sample_ct = QPushButton("Open a sample C&T")
        self.sample_ct.setToolTip("A synthetic CT of an abdomen and its liver; works offline")
        layout = QVBoxLayout(self.empty)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.empty_text)
        layout.addWidget(self.sample)
        layout.addWidget(self.sample_ct)
        return self.empty

    def _input(self) -> QWidget:
        self.image = LayerCombo(self.viewer, Image)
        self.image.setToolTip(
            "Image to segment: color or grey, a single one or a stack, also lazy or a pyramid"
        )
        self.slices = SliceSelector()
        self.model = ModelCombo()
        self.model.setToolTip("Segmentation model. Choose “Open model file…” to load your own")
        self.camera = CameraAngle()
        self.flips = QCheckBox("Average over &flips")
        self.flips.setToolTip("Average over four flips: slightly more accurate, four times slower")
        self.compatibility = WrappingLabel()
        self.compatibility.setToolTip("Whether this image matches the model's training data")
        self.device = WrappingLabel()
        self.device.setToolTip("Where the network runs; change it under Preferences > Plugins")
        box, self.choices, below = group_box("Image and model")
        self.choices.addRow("&Image", self.image)
        self.choices.addRow("&Model", self.model)
        self.choices.addRow("&Camera", self.camera)
        for part in (self.slices, self.flips, self.compatibility, self.device):
            below.addWidget(part)
        return box

    def _buttons(self) -> QWidget:
        self.run = QPushButton("&Run")
        self.run.setToolTip("Segment the image into a new Labels layer")
        self.stop = QPushButton("&Stop")
        self.stop.setToolTip("Stop now; complete slices stay, and the run can be continued")
        self.resume = QPushButton("C&ontinue")
        self.resume.setToolTip("Segment the slices that are missing, into the same layer")
        row = QWidget()
        layout = QHBoxLayout(row)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.run, 3)
        layout.addWidget(self.stop, 1)
        layout.addWidget(self.resume, 1)
        return row

    def _run_status(self) -> QWidget:
        self.progress = QProgressBar()
        self.progress.setRange(0, _STEPS)
        self.progress.setToolTip("How much is done, and about how long the rest takes")
        self.progress.setTextVisible(True)
        self.status = WrappingLabel()
        self.status.setToolTip("The state of the run, or an error")
        self.details = QPushButton("&Details…")
        self.details.setToolTip("Show the full traceback for a bug report")
        part = QWidget()
        layout = QVBoxLayout(part)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.progress)
        layout.addWidget(self.status)
        layout.addWidget(self.details, alignment=Qt.AlignmentFlag.AlignLeft)
        return part

    def _output(self) -> QWidget:
        self.threshold = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
        self.threshold.setRange(0.01, 0.99)
        self.threshold.setSingleStep(0.01)
        self.threshold.setToolTip("Foreground probability threshold; updates immediately")
        self.threshold.setAccessibleName("Threshold")
        self.automatic = QToolButton()
        self.automatic.setText("↺")
        self.automatic.setToolTip("Reset to the automatic threshold")
        self.reference = LayerCombo(self.viewer, Labels, none="none")
        self.reference.setToolTip("Labels to compare with, such as an expert's")
        self.as_labels = QPushButton()
        self.as_labels.setToolTip("Turn this image layer, which holds a mask, into the reference")
        self.place = QPushButton("P&lace it on its image")
        self.place.setToolTip(
            "The reference has no position and no pixel size;\n"
            "copy both from the image, whose shape is the same"
        )
        self.scores = WrappingLabel()
        self.scores.setToolTip(
            "Over all pixels of the complete slices. Dice and sensitivity: 1 is best. HD95: the "
            "95th percentile of the distances between the outlines, 0 is best"
        )
        self.volumes = WrappingLabel()
        self.volumes.setToolTip("Volume of each class in the complete slices")
        self.expected = WrappingLabel()
        self.expected.setToolTip(
            "Agreement with an expert's labels that is to be expected, from the model's\n"
            "probabilities alone; in brackets its 90 % interval. It cannot see an object that\n"
            "the model misses with confidence, nor experts who mark other things."
        )
        for figure in (self.expected, self.scores, self.volumes):
            figure.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.calibrate = QPushButton("Calibrate for a sca&nner…")
        self.calibrate.setToolTip(
            "Recalibrate for another scanner using two or more labelled images (no training)"
        )
        self.solid = QPushButton("&3-D view")
        self.solid.setCheckable(True)
        self.solid.setToolTip("Toggle 3-D rendering of the labels")
        self.unsure = QPushButton("&Uncertainty")
        self.unsure.setCheckable(True)
        self.unsure.setToolTip(
            "Show where the model is unsure, as a layer: of each pixel the probability that its\n"
            "most probable class is wrong, from 0 to 0.5 with two classes. No new run"
        )
        box, form, below = group_box("Result")
        self.result_box = box
        row = QHBoxLayout()
        row.addWidget(self.threshold, 1)
        row.addWidget(self.automatic)
        form.addRow(buddy_label("&Threshold", self.threshold), row)
        form.addRow("R&eference", self.reference)
        self.curve = SlicePlot(self.viewer)
        below.addWidget(self.as_labels)
        below.addWidget(self.place)
        below.addWidget(self.expected)
        below.addWidget(self.curve)
        below.addWidget(self.scores)
        below.addWidget(self.volumes)
        views = QHBoxLayout()
        views.addWidget(self.unsure)
        views.addWidget(self.solid)
        below.addLayout(views)
        below.addWidget(self.calibrate)
        return box

    def draw(self, state: SegmentState) -> None:
        """Show a state in the controls."""
        self._draw_input(state)
        self.draw_run(state)
        self._draw_result(state)

    def _draw_input(self, state: SegmentState) -> None:
        viewer = self.viewer
        nothing = empty_text(viewer)
        self.empty.setVisible(bool(nothing))
        self.empty_text.setText(nothing)
        for control in (self.image, self.model, self.camera, self.flips, self.slices):
            control.setEnabled(not state.running)
        self.choices.setRowVisible(self.camera, state.asks_angle(viewer))
        with signals_blocked(self.camera):
            self.camera.set_model_angle(state.info.angle if state.info else None)
            self.camera.setValue(state.angle or 0)
        with signals_blocked(self.flips):
            self.flips.setChecked(state.flips)
        layer = layer_by_id(viewer, state.image)
        axes = layer.axis_labels if layer is not None and layer.ndim == 3 and not layer.rgb else ()
        self.slices.show_choice(state.slices, stack_shape(viewer, state.image), axes)
        self.compatibility.setText(state.compatibility)
        self.device.setText(state.device)

    def draw_run(self, state: SegmentState) -> None:
        """Show a run's progress and what can be done about it."""
        self.run.setEnabled(not state.running and state.image is not None)
        self.stop.setEnabled(state.phase in ("loading", "segmenting"))
        self.stop.setVisible(state.running or not state.resumable)
        self.resume.setVisible(state.resumable and not state.running)
        self.progress.setVisible(state.phase in ("segmenting", "stopping"))
        self.progress.setValue(round(_STEPS * state.progress.fraction))
        self.progress.setFormat(str(state.progress))
        self.status.setText(state.message)
        self.details.setVisible(bool(state.traceback))

    def _draw_result(self, state: SegmentState) -> None:
        layer = layer_by_id(self.viewer, state.result)
        title = "Result" if layer is None else f"Result: {short_name(layer.name)}"
        self.result_box.setTitle(title)
        for control in (self.threshold, self.automatic):
            control.setEnabled(state.two_classes)
        self.automatic.setEnabled(state.two_classes and state.manual)
        with signals_blocked(self.threshold):
            self.threshold.setValue(state.threshold)
        mask = layer_by_id(self.viewer, state.mask)
        self.as_labels.setVisible(mask is not None)
        name = "" if mask is None else short_name(mask.name, 24)
        self.as_labels.setText(f"Use '{name}' as labels")
        self.place.setVisible(state.lacks_place(self.viewer))
        for label, figure in (
            (self.expected, state.expected),
            (self.scores, state.scores),
            (self.volumes, state.volumes),
        ):
            label.setText(figure.shown)
            label.setEnabled(not figure.stale)
        self.curve.draw(state.curve, state.shown_slice, state.expected.stale)
        self.unsure.setEnabled(layer is not None and not state.running)
        with signals_blocked(self.unsure):
            self.unsure.setChecked(layer_by_id(self.viewer, state.uncertainty) is not None)
        self.solid.setVisible(state.solid)
        with signals_blocked(self.solid):
            self.solid.setChecked(self.viewer.dims.ndisplay == 3)
