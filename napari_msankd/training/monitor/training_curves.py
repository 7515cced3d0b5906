"""Live curves of a run: losses of a stage, Dice of every stage, FSD beside it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from qtpy.QtCore import QElapsedTimer, QTimer
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QCheckBox, QComboBox, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from napari_msankd.theme import theme_colors
from napari_msankd.widgets.downsampling import DownsampledSeries, Growing, Values
from napari_msankd.widgets.line_plot import LinePlot, load_pyqtgraph
from napari_msankd.workers import Worker

if TYPE_CHECKING:
    from napari.components import ViewerModel
from src_training.config.loss_titles import loss_title
from src_training.config.stages import STAGES
from src_training.runs.history import RunHistory

POINTS = 200
"""Most points of a line: one for every other pixel."""

_REST_MS = 250
_SPREAD = 30
_LATEST = "Latest stage"


class TrainingCurves(QWidget):
    """Losses of a stage above, Dice on the source's validation images and FSD below.

    Parameters
    ----------
    viewer
        Whose theme the plots follow.

    Attributes
    ----------
    stage
        Whose losses are drawn; the first entry follows the run.
    log
        Whether the losses of the stage are drawn as logarithms: once they
        spread wide, or as a person chose.
    losses, dice, fsd
        The plots; None until the widget was first shown.
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
        self._since = QElapsedTimer()
        self._next = QTimer(self)
        self._next.setSingleShot(True)
        self._next.timeout.connect(self._on_loaded)
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.timeout.connect(self.redraw)
        self._build()
        viewer.events.theme.connect(self._on_theme)

    def draw(self, history: "RunHistory | None") -> None:
        """Show a run as it stands, at most four times a second; None clears."""
        if history is not self._history:
            self._forget()
            self._history = history
        if self._rest.isActive() or not self.isVisible():
            return
        rested = self._since.elapsed() if self._since.isValid() else _REST_MS
        self._rest.start(max(0, _REST_MS - rested))

    def end(self) -> None:
        """Draw no more, and follow the theme no more."""
        self._rest.stop()
        self._next.stop()
        for work in self.workers.values():
            work.cancel()
        self._viewer.events.theme.disconnect(self._on_theme)

    def redraw(self) -> None:
        """Draw at once."""
        if self.losses is None or self.dice is None or self.fsd is None:
            return
        self._since.start()
        history = self._history
        self.empty.setVisible(history is None or not history.losses)
        if history is None:
            for plot in (self.losses, self.dice, self.fsd):
                plot.draw({}, 1)
            return
        self._offer(list(history.losses))
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
        self.fsd.draw(self._thin("fsd", history.fsd), history.stages["distil"].steps or 1)
        self.fsd.setVisible(bool(history.fsd))

    def showEvent(self, event: QShowEvent) -> None:
        """Load pyqtgraph at the first show."""
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
        name = QLabel("&Losses of")
        name.setBuddy(self.stage)
        self.log = QCheckBox("lo&g scale")
        self.log.setToolTip("Logarithmic axis, for losses of different magnitudes")
        self.log.clicked.connect(self._on_log)
        self.empty = QLabel("Curves appear with the first step.")
        row = QHBoxLayout()
        row.addWidget(name)
        row.addWidget(self.stage, 1)
        row.addWidget(self.log)
        self._below = QHBoxLayout()
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(4)
        self._layout.addLayout(row)
        self._layout.addWidget(self.empty)

    def _on_loaded(self, _nothing: object = None) -> None:
        """Make the plots, one a turn of the event loop: each takes a moment."""
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
        self._next.start(0)

    def _forget(self) -> None:
        """Another run: what was seen and chosen of the last one goes."""
        self._traces.clear()
        self._log_stages.clear()
        while self.stage.count() > 1:
            self.stage.removeItem(1)

    def _offer(self, stages: list[str]) -> None:
        """List the stages that have begun."""
        for stage in stages[self.stage.count() - 1 :]:
            self.stage.addItem(_stage_title(stage), stage)

    def _draw_losses(self, history: "RunHistory", plot: LinePlot) -> None:
        stage = self._stage(history)
        lines = self._thin(stage, history.losses.get(stage, {}))
        if stage not in self._log_stages and _spread(lines) > _SPREAD:
            self._log_stages[stage] = True
        self.log.setChecked(self._log_stages.get(stage, False))
        end = history.stages[stage].steps if stage in history.stages else 0
        plot.draw(_with_titles(lines), end or 1, self.log.isChecked())

    def _stage(self, history: "RunHistory") -> str:
        """The chosen stage; else the last that has losses."""
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


def _stage_title(stage: str) -> str:
    return STAGES[stage].title if stage in STAGES else stage


def _with_titles(lines: dict[str, tuple[Values, Values]]) -> dict[str, tuple[Values, Values]]:
    """Lines of losses under what a person calls them; two of one title keep their names."""
    titles = [loss_title(name) for name in lines]
    return {
        name if titles.count(title) > 1 else title: line
        for (name, line), title in zip(lines.items(), titles, strict=True)
    }


def _spread(lines: Mapping[str, tuple[Values, Values]]) -> float:
    """Largest value over smallest; 0 where one is not positive."""
    values = [values for _, values in lines.values() if len(values)]
    low = min((float(line.min()) for line in values), default=0.0)
    return max(float(line.max()) for line in values) / low if low > 0 else 0.0
