"""The Graphs page: similarity of augmented views of a sample, for teacher and student."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QComboBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QSlider,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)
from superqt.utils import signals_blocked

from napari_msankd.explore.graphs.graph_view import ALIKE, UNLIKE, GraphView
from napari_msankd.explore.graphs.layers import add_graphs
from napari_msankd.explore.graphs.layout import (
    EDGES,
    PANELS,
    TITLES,
    Drawing,
    drawing,
    strongest,
)
from napari_msankd.explore.graphs.source import FINAL, GraphSource, batch_of
from napari_msankd.explore.state import ExploreState, Sample, samples_of
from napari_msankd.layers import WidgetLayers
from napari_msankd.theme import theme_colors
from napari_msankd.widgets.export_button import (
    ExportButton,
    save_and_report,
    save_picture,
    save_rows,
)
from napari_msankd.widgets.layout import buddy_label, push_button
from napari_msankd.widgets.wrapping_label import WrappingLabel
from napari_msankd.workers import Failure, WorkerGroup, timer

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_msankd.explore.extraction import Extraction
    from src_training.explore.view_graphs import BatchGraphs

_DELAY_MS = 150
_BATCH = 4
_NO_RUN = "Contrastive graphs compare a teacher with its student: choose a run on the first page."
_NO_SAMPLE = "Click a point on the Vectors page to see how similar its augmented views are."
_OTHER_GRID = (
    "This patch belongs to a model of another patch size: click a point of the teacher or a "
    "student."
)
_NO_STEPS = "This run saved no students of earlier steps."


class GraphPage(QWidget):
    """Star and complete graph of the current sample.

    Parameters
    ----------
    viewer
        The viewer, which gets the layers and whose theme sets the colors.
    state
        State of the Explore widget.
    own
        Layers of the Explore widget.

    Attributes
    ----------
    pictures
        Plots of teacher, student, and the difference student - teacher.
    """

    def __init__(self, viewer: "ViewerModel", state: ExploreState, own: WidgetLayers) -> None:
        super().__init__()
        self._viewer, self._state, self._own = viewer, state, own
        self._source: GraphSource | None = None
        self._samples: list[Sample] = []
        self._model = ""
        self._batch: list[Sample] = []
        self._steps: list[int] = []
        self._graphs: BatchGraphs | None = None
        self._drawing: Drawing | None = None
        self.workers = WorkerGroup(self, self._show_failure)
        self._soon = timer(self, self.compute, _DELAY_MS)
        self._build()
        self._connect()

    def compute(self) -> None:
        """Compute the graphs of the current sample in a worker."""
        current = self._state.selection.current
        if self._source is None or current is None:
            return
        if current.patch not in self._samples:
            self.workers.cancel("graphs")
            self.status.setText(_OTHER_GRID)
            return
        chosen = list(self._state.selection.samples) if self._together else []
        batch = batch_of(current, chosen, self._samples, _BATCH)
        self.status.setText("Computing graphs…")
        steps = self._source.graphs(batch, self.views.value(), self._step)
        self.workers.start("graphs", steps, lambda graphs: self._on_graphs(batch, graphs))

    def end(self) -> None:
        """Cancel workers and disconnect from the viewer."""
        self._soon.stop()
        self.workers.cancel_all()
        self._viewer.events.theme.disconnect(self._on_theme)

    def _on_extraction(self, extraction: "Extraction | None") -> None:
        """Use the run of an extraction."""
        self.workers.cancel_all()
        if extraction is None:
            return
        run, self._graphs, self._drawing = extraction.request.run, None, None
        # All models of a run have the same patches, so any table will do.
        self._model = next(iter(extraction.models))
        self._samples = samples_of(next(iter(extraction.tables.values())))
        self._source = None if run is None else GraphSource(extraction, run)
        for picture in self.pictures.values():
            picture.empty()
        self.done.setText("")
        self._set_steps([])
        if self._source is None:
            self.status.setText(_NO_RUN)
        else:
            self.status.setText(_NO_SAMPLE)
            self.workers.start("steps", self._source.steps(), self._set_steps)

    @property
    def _together(self) -> bool:
        return self.scope.currentIndex() == 1

    @property
    def _step(self) -> int:
        position = self.slider.value()
        return self._steps[position] if position < len(self._steps) else FINAL

    def _build(self) -> None:
        self.scope, self.edges, self.views = QComboBox(), QComboBox(), QSpinBox()
        self.scope.addItems(["sample", "batch"])
        self.scope.setToolTip("One sample, or up to four selected samples together")
        self.edges.addItems(list(EDGES))
        self.edges.setToolTip("Star: anchor to views (intra). Complete: view to view (inter)")
        self.views.setRange(2, 8)
        self.views.setValue(4)
        self.views.setToolTip("Number of augmented views of the sample, made as in training")
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setToolTip("The student at earlier training steps")
        self.step_label = QLabel()
        self.open_button = push_button(
            "&Open in viewer", "Add the views as an image, nodes as Points and edges as Vectors"
        )
        self.save_button = ExportButton("The three graphs as pictures, or all edges as CSV")
        colors = theme_colors(self._viewer)
        self.pictures = {panel: GraphView(title, colors) for panel, title in TITLES.items()}
        self.legend = QLabel()
        self.legend.setWordWrap(True)
        self.legend.setText(
            f'<span style="color:{ALIKE}">━</span> positive cosine similarity<br>'
            f'<span style="color:{UNLIKE}">━</span> negative<br>'
            "Line width = similarity"
        )
        self.status, self.done = WrappingLabel(), WrappingLabel()
        self.status.setToolTip("The sample whose graphs are shown")
        grid = QGridLayout()
        grid.setSpacing(2)
        for place, picture in enumerate(self.pictures.values()):
            grid.addWidget(picture, place // 2, place % 2)
        grid.addWidget(self.legend, 1, 1)
        for line in range(2):
            grid.setRowStretch(line, 1)
            grid.setColumnStretch(line, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.setSpacing(4)
        for line in self._lines():
            layout.addLayout(line)
        layout.addLayout(grid, 1)
        layout.addWidget(self.status)
        layout.addWidget(self.done)
        self._set_steps([])

    def _lines(self) -> list[QHBoxLayout]:
        first, second, third = QHBoxLayout(), QHBoxLayout(), QHBoxLayout()
        for text, control in (("Sco&pe", self.scope), ("&Edges", self.edges)):
            first.addWidget(buddy_label(text, control))
            first.addWidget(control, 1)
        second.addWidget(buddy_label("Vie&ws", self.views))
        second.addWidget(self.views)
        second.addStretch(1)
        second.addWidget(self.open_button)
        second.addWidget(self.save_button)
        third.addWidget(self.slider, 1)
        third.addWidget(self.step_label)
        return [first, second, third]

    def _connect(self) -> None:
        self.scope.currentIndexChanged.connect(lambda: self._soon.start())
        self.edges.currentIndexChanged.connect(self._draw)
        self.views.valueChanged.connect(lambda: self._soon.start())
        self.slider.valueChanged.connect(self._on_slider)
        self.open_button.clicked.connect(self.open)
        self.save_button.picture.connect(self._save_picture)
        self.save_button.numbers.connect(self._save_numbers)
        self._state.events.selection.connect(lambda _: self._soon.start())
        self._state.events.extraction.connect(self._on_extraction)
        for picture in self.pictures.values():
            picture.clicked.connect(self._on_clicked)
        self._viewer.events.theme.connect(self._on_theme)

    def _set_steps(self, steps: list[int]) -> None:
        self._steps = steps
        with signals_blocked(self.slider):
            self.slider.setRange(0, len(steps))
            self.slider.setValue(len(steps))
        self.slider.setEnabled(bool(steps))
        self.slider.setVisible(bool(steps))
        self.step_label.setText(self._step_text())
        self.step_label.setToolTip("" if steps else _NO_STEPS)
        self._enable()

    def _on_slider(self) -> None:
        self.step_label.setText(self._step_text())
        self._soon.start()

    def _step_text(self) -> str:
        return "best student" if self._step == FINAL else f"student at step {self._step}"

    def _on_graphs(self, batch: list[Sample], graphs: "BatchGraphs") -> None:
        self._batch, self._graphs = batch, graphs
        self._draw()
        others = f" and {len(batch) - 1} others" if self._together else ""
        text = f"{batch[0]}{others}"
        if graphs.centered:
            text += f"\nSimilarities after subtracting the mean of {len(batch)} samples, as in "
            text += "training."
        self.status.setText(text)
        self.done.setText("")

    def _draw(self) -> None:
        if self._graphs is None:
            return
        self._drawing = drawing(self._graphs, self.edges.currentText(), self._together)
        most = strongest(self._drawing)
        for panel, picture in self.pictures.items():
            picture.draw(self._drawing, self._drawing.values[panel], most[panel])
        self._enable()

    def open(self) -> None:
        """Show the graphs as layers, as Open in viewer does."""
        if self._drawing is not None:
            add_graphs(self._viewer, self._own, self._drawing, self._batch[0].case)
            order = ", ".join(TITLES.values())
            self.done.setText(
                f"In the viewer, from left to right: {order}. Other layers are hidden until you "
                "open a sample or close Explore."
            )

    def _on_clicked(self, node: int) -> None:
        assert self._drawing is not None
        index, view = self._drawing.owner(node)
        image = self._drawing.images[node] if view else None
        self._state.open(self._batch[index]._replace(view=view), self._model, image)

    def _save_picture(self, file: Path) -> None:
        def save() -> None:
            for panel, picture in self.pictures.items():
                save_picture(picture.getPlotItem(), file.with_stem(f"{file.stem}-{panel}"))

        self.done.setText(save_and_report(save, file.with_stem(f"{file.stem}-…")))

    def _save_numbers(self, file: Path) -> None:
        assert self._drawing is not None
        rows: list[list[Any]] = [["node", "other", *PANELS]]
        for edge, (one, other) in enumerate(self._drawing.edges.tolist()):
            ends = [
                f"{self._batch[self._drawing.owner(node)[0]].case} {self._drawing.names[node]}"
                for node in (one, other)
            ]
            rows.append([*ends, *(self._drawing.values[panel][edge] for panel in PANELS)])
        self.done.setText(save_and_report(lambda: save_rows(file, rows), file))

    def _enable(self) -> None:
        for button in (self.open_button, self.save_button):
            button.setEnabled(self._drawing is not None)

    def _show_failure(self, failure: Failure) -> None:
        self.status.setText(f"✕ {failure.sentence}")

    def _on_theme(self, _event: object = None) -> None:
        for picture in self.pictures.values():
            picture.recolor(theme_colors(self._viewer))
