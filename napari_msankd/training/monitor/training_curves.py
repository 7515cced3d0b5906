"""Live curves of a run: losses of one stage, Dice of all stages, and FSD."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from qtpy.QtCore import QElapsedTimer
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QCheckBox, QComboBox, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from napari_msankd.theme import theme_colors
from napari_msankd.widgets.downsampling import DownsampledSeries, Growing, Values
from napari_msankd.widgets.layout import buddy_label
from napari_msankd.widgets.line_plot import LinePlot, load_pyqtgraph
from napari_msankd.workers import Worker, timer
from src_training.config.loss_titles import loss_title
from src_training.config.stages import STAGES
from src_training.runs.history import RunHistory

if TYPE_CHECKING:
    from napari.components import ViewerModel

POINTS = 200
"""Maximum number of points of a line, about one for two pixels."""

_REST_MS = 250
_SPREAD = 30
_LATEST = "Latest stage"


class TrainingCurves(QWidget):
    """Losses of a stage above; Dice on the source's validation images and FSD below.

    Parameters
    ----------
    viewer
        The viewer whose theme sets the colors.

    Attributes
    ----------
    stage
        Stage of the losses; the first entry follows the run.
    log
        Whether the axis of the losses is logarithmic; by default if their range is wide.
    losses, dice, fsd
        The plots; None until the widget is first shown.
    """

    def __init__(self, viewer: "ViewerModel") -> None:
        super().__init__()
        self._viewer = viewer
        self._history: RunHistory | None = None
        self._traces: dict[tuple[str, ...], DownsampledSeries] = {}
        self._log_stages: dict[str, bool] = {}
        self.losses: LinePlot | None = None
        self.dice: LinePlot | None = None
        self.fsd: LinePlot | None = None
        self.workers: dict[str, Worker] = {}
        self._since_redraw = QElapsedTimer()
        self._next_plot = timer(self, self._on_loaded)
        self._redraw_timer = timer(self, self.redraw)
        self._build()
        viewer.events.theme.connect(self._on_theme)

    def draw(self, history: "RunHistory | None") -> None:
        """Draw the history of a run, at most four times a second; None clears the plots."""
        if history is not self._history:
            self._reset()
            self._history = history
        if self._redraw_timer.isActive() or not self.isVisible():
            return
        elapsed = self._since_redraw.elapsed() if self._since_redraw.isValid() else _REST_MS
        self._redraw_timer.start(max(0, _REST_MS - elapsed))

    def end(self) -> None:
        """Cancel timers and workers, and disconnect from the viewer."""
        self._redraw_timer.stop()
        self._next_plot.stop()
        for work in self.workers.values():
            work.cancel()
        self._viewer.events.theme.disconnect(self._on_theme)

    def redraw(self) -> None:
        """Draw immediately."""
        if self.losses is None or self.dice is None or self.fsd is None:
            return
        self._since_redraw.start()
        history = self._history
        self.empty.setVisible(history is None or not history.losses)
        if history is None:
            for plot in (self.losses, self.dice, self.fsd):
                plot.draw({}, 1)
            return
        self._list_stages(list(history.losses))
        self._draw_losses(history, self.losses)
        scores = {
            name: history.scores[name]
            for name, spec in STAGES.items()
            if spec.scored_by == "dice" and name in history.scores
        }
        dice = {
            _stage_title(stage): (100 * steps / max(1, history.stages[stage].steps), values)
            for stage, (steps, values) in self._thin("dice", scores).items()
        }
        self.dice.draw(dice, 100)
        self.fsd.draw(self._thin("fsd", history.fsd), _end_of(history, "distil"))
        self.fsd.setVisible(bool(history.fsd))

    def showEvent(self, event: QShowEvent) -> None:
        """Import pyqtgraph on the first show."""
        super().showEvent(event)
        if self.losses is not None:
            self.redraw()
        elif not self.workers:
            work = self.workers["plots"] = Worker(load_pyqtgraph(), self)
            work.yielded.connect(self._on_loaded)
            work.finished.connect(self.workers.clear)
            work.start()

    def _build(self) -> None:
        self.stage = QComboBox()
        self.stage.addItem(_LATEST, None)
        self.stage.setToolTip("Stage whose losses are shown")
        self.stage.activated.connect(self.redraw)
        self.log = QCheckBox("lo&g scale")
        self.log.setToolTip("Logarithmic axis, for losses of different magnitudes")
        self.log.clicked.connect(self._on_log)
        self.empty = QLabel("Curves appear with the first step.")
        row = QHBoxLayout()
        row.addWidget(buddy_label("&Losses of", self.stage))
        row.addWidget(self.stage, 1)
        row.addWidget(self.log)
        self._below = QHBoxLayout()
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(4)
        self._layout.addLayout(row)
        self._layout.addWidget(self.empty)

    def _on_loaded(self, _nothing: object = None) -> None:
        """Create the plots, one per cycle of the event loop, because each is slow."""
        colors = theme_colors(self._viewer)
        if self.losses is None:
            self.losses = LinePlot("step of the stage", "loss", colors)
            self._layout.addWidget(self.losses, 4)
            self._layout.addLayout(self._below, 3)
        elif self.dice is None:
            self.dice = LinePlot("stage done (%)", "validation Dice", colors, marks=True)
            self._below.addWidget(self.dice, 1)
        elif self.fsd is None:
            self.fsd = LinePlot("step of the distillation", "FSD to the source", colors, marks=True)
            self._below.addWidget(self.fsd, 1)
            self.redraw()
            return
        self._next_plot.start()

    def _reset(self) -> None:
        """Clear data and choices of the former run."""
        self._traces.clear()
        self._log_stages.clear()
        while self.stage.count() > 1:
            self.stage.removeItem(1)

    def _list_stages(self, stages: list[str]) -> None:
        """Add new stages to the combobox."""
        for stage in stages[self.stage.count() - 1 :]:
            self.stage.addItem(_stage_title(stage), stage)

    def _draw_losses(self, history: "RunHistory", plot: LinePlot) -> None:
        stage = self._stage(history)
        lines = self._thin(stage, history.losses.get(stage, {}))
        if stage not in self._log_stages and _spread(lines) > _SPREAD:
            self._log_stages[stage] = True
        self.log.setChecked(self._log_stages.get(stage, False))
        plot.draw(_with_titles(lines), _end_of(history, stage), self.log.isChecked())

    def _stage(self, history: "RunHistory") -> str:
        """The chosen stage, or else the last one with losses."""
        return self.stage.currentData() or next(reversed(history.losses), "")

    def _thin(self, kind: str, growing: Mapping[str, Growing]) -> dict[str, tuple[Values, Values]]:
        thinned = {}
        for name, series in growing.items():
            trace = self._traces.setdefault((kind, name), DownsampledSeries())
            trace.follow(series)
            thinned[name] = trace.thinned(POINTS)
        return thinned

    def _on_log(self, log: bool) -> None:
        if self._history is not None:
            self._log_stages[self._stage(self._history)] = log
            self.redraw()

    def _on_theme(self, _event: object = None) -> None:
        for plot in (self.losses, self.dice, self.fsd):
            if plot is not None:
                plot.recolour(theme_colors(self._viewer))


def _end_of(history: "RunHistory", stage: str) -> int:
    """Steps of a stage, at least 1, which a run may not have."""
    return max(1, history.stages[stage].steps) if stage in history.stages else 1


def _stage_title(stage: str) -> str:
    return STAGES[stage].title if stage in STAGES else stage


def _with_titles(lines: dict[str, tuple[Values, Values]]) -> dict[str, tuple[Values, Values]]:
    """Replace names of losses by titles, unless two losses have the same title."""
    titles = [loss_title(name) for name in lines]
    return {
        name if titles.count(title) > 1 else title: line
        for (name, line), title in zip(lines.items(), titles, strict=True)
    }


def _spread(lines: Mapping[str, tuple[Values, Values]]) -> float:
    """Ratio of the largest to the smallest value; 0 if any is not positive."""
    values = [values for _, values in lines.values() if len(values)]
    low = min((float(line.min()) for line in values), default=0.0)
    return max(float(line.max()) for line in values) / low if low > 0 else 0.0
