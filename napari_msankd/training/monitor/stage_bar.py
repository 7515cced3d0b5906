"""The stages of a run in one or two rows, and a line of how far it is."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QPointF, QRectF, QSize, Qt
from qtpy.QtGui import (
    QColor,
    QFont,
    QFontMetricsF,
    QHelpEvent,
    QPainter,
    QPainterPath,
    QPaintEvent,
    QResizeEvent,
)
from qtpy.QtWidgets import QSizePolicy, QToolTip, QWidget

from napari_msankd.formatting import format_clock, format_duration
from napari_msankd.theme import ThemeColors, theme_colors
from src_training.config.stages import STAGES

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from src_training.runs.history import RunHistory, StageProgress

_FILLS = {"done": lambda colors: colors.done, "running": lambda colors: colors.chosen}
_GAP, _PAD, _BAR, _LINE = 3.0, 4.0, 34.0, 20.0


class StageBar(QWidget):
    """Stages done (✓ and time), running (percent) and waiting, and the time left.

    Parameters
    ----------
    viewer
        Whose theme it is drawn in.
    """

    def __init__(self, viewer: "ViewerModel") -> None:
        super().__init__()
        self._viewer = viewer
        self._stages: list[StageProgress] = []
        self._text = ""
        self.setFixedHeight(round(_BAR + _LINE))
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        viewer.events.theme.connect(self._on_theme)

    @property
    def text(self) -> str:
        """The line below the stages."""
        return self._text

    def draw(
        self, history: "RunHistory | None", estimate: Mapping[str, float] | None = None
    ) -> None:
        """Show a run as it stands; None clears.

        Parameters
        ----------
        history
            Of the run.
        estimate
            Estimated seconds of each stage; gives the time that is left.
        """
        self._stages = list(history.stages.values()) if history else []
        self._text = progress_text(history, estimate) if history else ""
        self._fit_height()
        self.setAccessibleName("Stages of the run")
        stages = [f"{_name(stage)}: {_state_text(stage) or 'waiting'}" for stage in self._stages]
        self.setAccessibleDescription(". ".join([*stages, self._text]))
        self.update()

    def end(self) -> None:
        """Follow the theme no more."""
        self._viewer.events.theme.disconnect(self._on_theme)

    @property
    def _small(self) -> QFont:
        """The font of the stages."""
        font = QFont(self.font())
        font.setPointSizeF(0.85 * font.pointSizeF())
        return font

    def resizeEvent(self, _event: QResizeEvent) -> None:
        """Take a second row where one is too narrow for the names."""
        self._fit_height()

    def _fit_height(self) -> None:
        height = round(self._bar + (_LINE if self._text else 0))
        if height != self.minimumHeight():
            self.setFixedHeight(height)

    @property
    def _bar(self) -> float:
        """Height of the rows."""
        return _BAR * max(1, len(self._rows()))

    def sizeHint(self) -> QSize:
        """As wide as its names need."""
        return QSize(420, self.height())

    def event(self, event: QEvent) -> bool:
        """Explain the stage under the pointer."""
        if event.type() == QEvent.Type.ToolTip and isinstance(event, QHelpEvent):
            at = QPointF(event.pos())
            for stage, box in zip(self._stages, self.boxes(), strict=True):
                if box.contains(at):
                    QToolTip.showText(event.globalPos(), stage_tip(stage), self)
            return True
        return super().event(event)

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw the stages and the line below."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        colors = theme_colors(self._viewer)
        for stage, box in zip(self._stages, self.boxes(), strict=True):
            painter.setFont(self._small)
            _paint_stage(painter, stage, box, colors)
        line = QRectF(0, self._bar, self.width(), _LINE)
        painter.setFont(self.font())
        painter.setPen(QColor(colors.text))
        fitting = QFontMetricsF(self.font()).elidedText(
            self._text, Qt.TextElideMode.ElideRight, line.width()
        )
        painter.drawText(line, Qt.AlignmentFlag.AlignVCenter, fitting)

    def boxes(self) -> list[QRectF]:
        """A box for each stage, as wide as its share of the letters in its row."""
        boxes = []
        for row, wanted in enumerate(self._rows()):
            room = self.width() - _GAP * (len(wanted) - 1) - 1
            left = 0.5
            for width in wanted:
                width *= room / sum(wanted)
                boxes.append(QRectF(left, _BAR * row + 0.5, width, _BAR - 2))
                left += width + _GAP
        return boxes

    def _rows(self) -> list[list[float]]:
        """Widths that the stages want, in one row or in two where one is too narrow."""
        metrics = QFontMetricsF(self._small)
        least = metrics.horizontalAdvance("✓ 00:00")
        wanted = [
            max(metrics.horizontalAdvance(_name(stage)), least) + 2 * _PAD for stage in self._stages
        ]
        if not wanted or sum(wanted) + _GAP * len(wanted) <= self.width():
            return [wanted] if wanted else []
        # The split whose longer row is shortest.
        split = min(
            range(1, len(wanted)), key=lambda k: max(sum(wanted[:k]), sum(wanted[k:])), default=1
        )
        return [row for row in (wanted[:split], wanted[split:]) if row]

    def _on_theme(self, _event: object = None) -> None:
        self.update()


def _paint_stage(
    painter: QPainter, stage: "StageProgress", box: QRectF, colors: ThemeColors
) -> None:
    outline = QPainterPath()
    outline.addRoundedRect(box, 4, 4)
    painter.fillPath(outline, QColor(colors.raised))
    share = _share(stage)
    if share:
        filled = QRectF(box.left(), box.top(), box.width() * share, box.height())
        part = QPainterPath()
        part.addRect(filled)
        painter.fillPath(outline.intersected(part), QColor(_FILLS[stage.state](colors)))
    waits = stage.state == "waiting"
    painter.setPen(QColor(colors.chosen if stage.state == "running" else colors.faint))
    painter.drawPath(outline)
    painter.setPen(QColor(colors.dim if waits else colors.text))
    inner = box.adjusted(_PAD - 2, 2, 2 - _PAD, -2)
    upper = QRectF(inner.left(), inner.top(), inner.width(), inner.height() / 2)
    metrics = QFontMetricsF(painter.font())
    progress = _state_text(stage)
    if metrics.horizontalAdvance(progress) > inner.width():
        # Its color shows it, too.
        progress = progress.removeprefix("✓ ")
    for line, text in ((upper, _name(stage)), (upper.translated(0, upper.height()), progress)):
        fitting = metrics.elidedText(text, Qt.TextElideMode.ElideRight, line.width())
        painter.drawText(line, Qt.AlignmentFlag.AlignCenter, fitting)


def _share(stage: "StageProgress") -> float:
    """How much of a stage is done, 0 to 1."""
    if stage.state == "done":
        return 1.0
    return min(1.0, stage.step / stage.steps) if stage.state == "running" and stage.steps else 0.0


def _name(stage: "StageProgress") -> str:
    return STAGES[stage.name].title if stage.name in STAGES else stage.name


def _state_text(stage: "StageProgress") -> str:
    """The line below a stage's name."""
    if stage.state == "done":
        return f"✓ {format_clock(stage.seconds)}" if stage.steps else "✓"
    return f"{int(100 * _share(stage))} %" if stage.state == "running" else ""


def stage_tip(stage: "StageProgress") -> str:
    """What a stage trains, how far it is, and how good: a few lines."""
    spec = STAGES.get(stage.name)
    lines = [spec.description if spec else stage.name]
    if stage.state == "done" and not stage.steps:
        lines.append("Taken from another run")
    elif stage.state != "waiting":
        lines.append(f"Step {stage.step} of {stage.steps}, {format_duration(stage.seconds)}")
    if stage.score is not None:
        kind = "Dice" if spec and spec.scored_by == "dice" else "score (minus the loss)"
        lines.append(f"Best {kind} on the validation images: {stage.score:.3f}")
    return "\n".join(lines)


def progress_text(history: "RunHistory", estimate: Mapping[str, float] | None) -> str:
    """How far a run is, in a line."""
    running = [stage for stage in history.stages.values() if stage.state == "running"]
    if not running:
        scored = history.state == "running" and all(
            stage.state == "done" for stage in history.stages.values()
        )
        return "Scoring the models…" if scored else ""
    stage, left = running[0], history.seconds_left(estimate)
    parts = [f"{_name(stage)}: step {stage.step} of {stage.steps}"]
    if history.state != "running":
        return parts[0]
    if left is not None:
        parts.append(f"about {format_duration(max(1, left))} left")
    else:
        left = history.stage_seconds_left()
        parts += [f"about {format_duration(left)} left of this stage"] if left else []
    return " · ".join(parts)
