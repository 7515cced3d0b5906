"""The Maps page: feature maps, reconstructed bottlenecks and cross predictions over an image."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.layers import Image
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFormLayout,
    QVBoxLayout,
    QWidget,
)
from superqt.utils import signals_blocked

from napari_msankd.explore.feature_maps.layers import (
    FeatureMap,
    add_maps,
    cross_predictions,
    features,
    grid_text,
    reconstructions,
    style_maps,
)
from napari_msankd.explore.sample_layers import camera_angle
from napari_msankd.explore.state import ExploreState
from napari_msankd.layers import WidgetLayers, shown_index
from napari_msankd.planes import Index, Planes, planes_of
from napari_msankd.widgets.layer_combo import LayerCombo
from napari_msankd.widgets.layout import group_box, push_button
from napari_msankd.widgets.wrapping_label import WrappingLabel
from napari_msankd.workers import Failure, WorkerGroup, as_failure
from src_training.errors import InputError

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_msankd.explore.extraction import Extraction
    from src_training.inference.model_file import SegmentationModel

_NO_RUN = "Reconstructions and cross predictions need a run: choose one on the first page."
_INTRODUCTION = "Shows a network's features as layers over the current slice of an image."


class FeatureMapPage(QWidget):
    """Adds layers over the current slice of an image.

    Parameters
    ----------
    viewer
        The viewer.
    state
        State of the Explore widget.
    own
        Layers of the Explore widget.
    """

    def __init__(self, viewer: "ViewerModel", state: ExploreState, own: WidgetLayers) -> None:
        super().__init__()
        self._viewer, self._state, self._own = viewer, state, own
        self.workers = WorkerGroup(self, self._show_failure)
        self._build()
        self.model.currentIndexChanged.connect(self._list_taps)
        self.image.changed.connect(self._enable)
        self.show_button.clicked.connect(self.show_features)
        self.reconstruction_button.clicked.connect(lambda: self._show_run(reconstructions))
        self.cross_button.clicked.connect(lambda: self._show_run(cross_predictions))
        self.grid_box.toggled.connect(self._on_grid_box)
        viewer.canvas.grid.events.enabled.connect(self._on_grid)
        state.events.extraction.connect(self._on_extraction)

    def show_features(self) -> None:
        """Add the activation energy at the tap, and optionally its channels, as Show does."""
        name, extraction = self.model.currentText(), self._extraction
        model = extraction.models[name].for_camera(camera_angle(extraction, self.image.layer))
        tap, channels = self.tap.currentText(), self.channels.isChecked()
        self._start(model, lambda pixels: features(model, name, pixels, tap, channels))

    def end(self) -> None:
        """Cancel workers and disconnect from the viewer."""
        self.workers.cancel_all()
        self._viewer.canvas.grid.events.enabled.disconnect(self._on_grid)

    @property
    def _extraction(self) -> "Extraction":
        assert self._state.extraction is not None
        return self._state.extraction

    @property
    def _run(self) -> Path | None:
        extraction = self._state.extraction
        return None if extraction is None else extraction.request.run

    def _build(self) -> None:
        self.image = LayerCombo(self._viewer, Image)
        self.image.setToolTip("The image whose current slice is shown to the network")
        self.model, self.tap = QComboBox(), QComboBox()
        self.model.setToolTip("The network whose features are shown")
        self.tap.setToolTip("Layer of the network, from its first block to its last")
        self.channels = QCheckBox("With all c&hannels")
        self.channels.setToolTip("Also add a stack with a slider over the channels")
        self.show_button = push_button(
            "S&how", "Add the activation energy as a layer over the image"
        )
        self.reconstruction_button = push_button(
            "Re&construction",
            "The bottleneck as each header (TAN, SAN) reconstructs it, and its error",
        )
        self.cross_button = push_button(
            "C&ross predictions",
            "p_T and p_S, and p1 and p2: each network decoding the other's semantic vector",
        )
        self.grid_box = QCheckBox("Grid &view")
        self.grid_box.setToolTip("Show visible layers side by side; clear it to restore the view")
        self.grid_box.setChecked(self._viewer.canvas.grid.enabled)
        self.run_text, self.status = WrappingLabel(_NO_RUN), WrappingLabel()
        self.status.setToolTip("Progress, results and errors")
        first, form, below = group_box("Features")
        form.addRow("&Model", self.model)
        form.addRow("&Tap", self.tap)
        below.addWidget(self.channels)
        below.addWidget(self.show_button)
        second, _, below = group_box("Teacher and student of the run")
        for part in (self.run_text, self.reconstruction_button, self.cross_button):
            below.addWidget(part)
        top = QFormLayout()
        top.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        top.addRow("&Image", self.image)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.setSpacing(6)
        layout.addWidget(WrappingLabel(_INTRODUCTION))
        layout.addLayout(top)
        for part in (first, second, self.grid_box, self.status):
            layout.addWidget(part)
        layout.addStretch(1)
        self._enable()

    def _on_extraction(self, extraction: "Extraction | None") -> None:
        """List the models of the extraction."""
        if extraction is None:
            return
        with signals_blocked(self.model):
            self.model.clear()
            self.model.addItems(list(extraction.models))
            self.model.setCurrentIndex(self.model.count() - 1)
        self._list_taps()
        self.run_text.setText("" if self._run is not None else _NO_RUN)
        self._enable()

    def _list_taps(self) -> None:
        self.tap.clear()
        if self.model.currentText():
            self.tap.addItems(list(self._extraction.models[self.model.currentText()].network.taps))
            self.tap.setCurrentIndex(self.tap.findText("bottleneck"))

    def _on_grid_box(self, checked: bool) -> None:
        if checked:
            self._own.set_grid(True)
        else:
            self._own.restore()
            self._viewer.canvas.grid.enabled = False

    def _on_grid(self, _event: object = None) -> None:
        """Follow the grid mode, also when napari's own button changes it."""
        self.grid_box.setChecked(self._viewer.canvas.grid.enabled)
        style_maps(self._own, self._viewer.canvas.grid.enabled)

    def _show_run(
        self, steps: Callable[[Path, Any, float | None], Iterator[list[FeatureMap]]]
    ) -> None:
        run, extraction = self._run, self._extraction
        assert run is not None
        angle = camera_angle(extraction, self.image.layer)
        # The models of the run come first, and share their preprocessing.
        model = next(iter(extraction.models.values()))
        self._start(model, lambda pixels: steps(run, pixels, angle), grid=True)

    def _start(
        self,
        model: "SegmentationModel",
        steps: Callable[[Any], Iterator[list[FeatureMap]]],
        grid: bool = False,
    ) -> None:
        layer, neighbours = self.image.layer, model.card.preprocessing.neighbours
        try:
            planes = planes_of(layer)
        except InputError as error:
            self._show_failure(as_failure(error))
            return
        index = shown_index(self._viewer, layer)
        self.status.setText("Computing feature maps…")
        self.workers.start(
            "maps",
            _read_and_compute(steps, planes, index, neighbours),
            lambda maps: self._show_maps(layer, maps, grid),
        )
        self._enable()

    def _show_maps(self, layer: Any, maps: list[FeatureMap], grid: bool) -> None:
        order = [grid_text(maps)] if grid else []
        self._finish("\n".join([*order, *(m.text for m in maps if m.text)]))
        if layer not in self._viewer.layers:
            return
        add_maps(self._own, layer, maps)
        if grid:
            added = [self._own.get(("map", layer.unique_id, m.name)) for m in maps]
            self._own.show_only([layer, *added])
            self._own.set_grid(True)
            self._viewer.fit_to_view()
        style_maps(self._own, self._viewer.canvas.grid.enabled)
        self._viewer.layers.selection.active = layer

    def _finish(self, text: str) -> None:
        self.workers.cancel("maps")
        self.status.setText(text)
        self._enable()

    def _show_failure(self, failure: Failure) -> None:
        self._finish(f"✕ {failure.sentence}")

    def _enable(self) -> None:
        ready = self.image.layer is not None and self._state.extraction is not None
        ready = ready and "maps" not in self.workers
        self.show_button.setEnabled(ready)
        for button in (self.reconstruction_button, self.cross_button):
            button.setEnabled(ready and self._run is not None)


def _read_and_compute(
    steps: Callable[[Any], Iterator[list[FeatureMap]]],
    planes: Planes,
    index: Index,
    neighbours: int,
) -> Iterator[list[FeatureMap]]:
    """Read a plane, maybe from a lazy layer, and compute its maps; for a worker."""
    yield from steps(planes.read(index, neighbours))
