"""The Maps page: features, rebuilt bottlenecks and cross predictions over an image."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.layers import Image
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFormLayout,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_msankd.explore.feature_maps.layers import (
    Picture,
    add_pictures,
    crossing,
    features,
    lay_maps,
    order_of,
    rebuilding,
)
from napari_msankd.explore.sample_layers import camera_of
from napari_msankd.explore.selection import Selection
from napari_msankd.layers import Index, Planes, planes_of, shown_index
from napari_msankd.widgets.layer_combo import LayerCombo
from napari_msankd.widgets.layout import group_box
from napari_msankd.widgets.wrapping_label import WrappingLabel
from napari_msankd.workers import Failure, WorkerGroup, as_failure
from src_training.errors import InputError

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_msankd.explore.extraction import Extraction
    from src_training.inference.model_file import SegmentationModel

_NO_RUN = "Rebuildings and cross predictions belong to a run: choose one on the first page."
_WHAT = (
    "What the networks make of the image, as layers over it. A sample that is clicked on another "
    "page opens its image here."
)


class FeatureMapPage(QWidget):
    """Adds layers over the slice in sight of an image.

    Parameters
    ----------
    viewer
        Whose layers.
    selection
        What is chosen.
    """

    def __init__(self, viewer: "ViewerModel", selection: Selection) -> None:
        super().__init__()
        self._viewer = viewer
        self._explored: Extraction | None = None
        self.workers = WorkerGroup(self, self._fail)
        self._build()
        self.model.currentIndexChanged.connect(self._on_model)
        self.image.changed.connect(self._enable)
        self.show_button.clicked.connect(self.show_features)
        self.rebuild_button.clicked.connect(lambda: self._of_run(rebuilding))
        self.cross_button.clicked.connect(lambda: self._of_run(crossing))
        self.apart.toggled.connect(lambda on: setattr(viewer.canvas.grid, "enabled", on))
        viewer.canvas.grid.events.enabled.connect(self._on_grid)

    def show_explored(self, explored: "Extraction") -> None:
        """Offer the models that were extracted with."""
        self._explored = explored
        self.model.blockSignals(True)
        self.model.clear()
        self.model.addItems(list(explored.models))
        self.model.setCurrentIndex(self.model.count() - 1)
        self.model.blockSignals(False)
        self._on_model()
        self.run_words.setText("" if explored.request.run is not None else _NO_RUN)
        self._enable()

    def show_features(self) -> None:
        """Add the energy at the tap, and its channels; what the button does."""
        name = self.model.currentText()
        assert self._explored is not None
        model = self._explored.models[name].for_camera(self._camera())
        tap, channels = self.tap.currentText(), self.channels.isChecked()
        self._begin(model, lambda pixels: features(model, name, pixels, tap, channels))

    def end(self) -> None:
        """Work no more."""
        self.workers.cancel_all()
        self._viewer.canvas.grid.events.enabled.disconnect(self._on_grid)

    def _build(self) -> None:
        self.image = LayerCombo(self._viewer, Image)
        self.image.setToolTip("The image whose slice in sight is looked at")
        self.model, self.tap = QComboBox(), QComboBox()
        self.model.setToolTip("Whose features are shown")
        self.tap.setToolTip("Where in the network, from its first block to its last")
        self.channels = QCheckBox("With all c&hannels")
        self.channels.setToolTip("A stack with a slider through the channels, beside their energy")
        self.show_button = _button("S&how", "Add the activation energy as a layer over the image")
        self.rebuild_button = _button(
            "Re&buildings", "The bottleneck as the header rebuilds it, and the error of it"
        )
        self.cross_button = _button(
            "C&ross predictions",
            "p_T and p_S, and p1 and p2: each network decoding the other's semantic vector",
        )
        self.apart = QCheckBox("Side b&y side")
        self.apart.setToolTip("napari's grid: a field for each layer in sight, moved together")
        self.apart.setChecked(self._viewer.canvas.grid.enabled)
        self.run_words, self.status = WrappingLabel(), WrappingLabel()
        self.status.setToolTip("What happens, or what went wrong")
        self.bar = QProgressBar()
        self.bar.setRange(0, 0)
        self.bar.setMaximumHeight(8)
        self.bar.hide()
        first, form, below = group_box("Features")
        form.addRow("&Model", self.model)
        form.addRow("&Tap", self.tap)
        below.addWidget(self.channels)
        below.addWidget(self.show_button)
        second, _, below = group_box("Teacher and student of the run")
        for part in (self.run_words, self.rebuild_button, self.cross_button):
            below.addWidget(part)
        top = QFormLayout()
        top.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        top.addRow("&Image", self.image)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.setSpacing(6)
        layout.addWidget(WrappingLabel(_WHAT))
        layout.addLayout(top)
        for part in (first, second, self.apart, self.bar, self.status):
            layout.addWidget(part)
        layout.addStretch(1)
        self._enable()

    def _on_model(self) -> None:
        self.tap.clear()
        if self._explored is not None and self.model.currentText():
            self.tap.addItems(list(self._explored.models[self.model.currentText()].network.taps))
            self.tap.setCurrentIndex(self.tap.findText("bottleneck"))

    def _on_grid(self, _event: object = None) -> None:
        self.apart.setChecked(self._viewer.canvas.grid.enabled)
        lay_maps(self._viewer)

    def _of_run(self, steps: Callable[[Path, Any, float | None], Iterator[list[Picture]]]) -> None:
        assert self._explored is not None and self._explored.request.run is not None
        run, angle = self._explored.request.run, self._camera()
        # Those of the run come first, and prepare images alike.
        model = next(iter(self._explored.models.values()))
        self._begin(model, lambda pixels: steps(run, pixels, angle), apart=True)

    def _camera(self) -> float | None:
        assert self._explored is not None
        return camera_of(self._explored, self.image.layer)

    def _begin(
        self,
        model: "SegmentationModel",
        steps: Callable[[Any], Iterator[list[Picture]]],
        apart: bool = False,
    ) -> None:
        layer, how = self.image.layer, model.card.preprocessing
        try:
            planes = planes_of(layer)
        except InputError as error:
            self._fail(as_failure(error))
            return
        index = shown_index(self._viewer, layer)

        def show(pictures: list[Picture]) -> None:
            order = [order_of(pictures)] if apart else []
            self._rest("\n".join([*order, *(each.said for each in pictures if each.said)]))
            if layer not in self._viewer.layers:
                return
            if apart:
                for other in self._viewer.layers:
                    other.visible = other is layer
                self.apart.setChecked(True)
            add_pictures(self._viewer, layer, pictures)
            if apart:
                self._viewer.fit_to_view()

        self.status.setText("Looking…")
        self.bar.show()
        self.workers.start("maps", _looked(planes, index, how.neighbours, steps), show)
        self._enable()

    def _rest(self, words: str) -> None:
        self.workers.cancel("maps")
        self.bar.hide()
        self.status.setText(words)
        self._enable()

    def _fail(self, failure: Failure) -> None:
        self._rest(f"✕ {failure.sentence}")

    def _enable(self) -> None:
        ready = self.image.layer is not None and self._explored is not None
        ready = ready and "maps" not in self.workers
        run = self._explored is not None and self._explored.request.run is not None
        self.show_button.setEnabled(ready)
        for button in (self.rebuild_button, self.cross_button):
            button.setEnabled(ready and run)


def _looked(
    planes: Planes,
    index: Index,
    neighbours: int,
    steps: Callable[[Any], Iterator[list[Picture]]],
) -> Iterator[list[Picture]]:
    """A lazy layer is read here, where the window does not wait for it."""
    yield from steps(planes.read(index, neighbours))


def _button(text: str, tip: str) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tip)
    return button
