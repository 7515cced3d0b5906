"""A bar of the stages of a run in one or two rows, and a line with its progress."""

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

from napari_msankd.formatting import format_clock
from napari_msankd.theme import ThemeColors, theme_colors
from src_training.config.stages import STAGES
from src_training.formatting import format_duration

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from src_training.runs.history import RunHistory, StageProgress

_FILLS = {"done": lambda colors: colors.done, "running": lambda colors: colors.chosen}
_GAP, _PAD, _BAR, _LINE = 3.0, 4.0, 34.0, 20.0


class StageBar(QWidget):
    """Stages that are done (✓ and time), running (percent) and waiting, and the time left.

    Parameters
    ----------
    viewer
        The viewer whose theme sets the colors.
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
        """Show the progress of a run; None clears the bar.

        Parameters
        ----------
        history
            History of the run.
        estimate
            Estimated seconds of each stage, for the remaining time.
        """
        self._stages = list(history.stages.values()) if history else []
        self._text = progress_text(history, estimate) if history else ""
        self._fit_height()
        self.setAccessibleName("Stages of the run")
        stages = [f"{_name(stage)}: {_state_text(stage) or 'waiting'}" for stage in self._stages]
        self.setAccessibleDescription(". ".join([*stages, self._text]))
        self.update()

    def end(self) -> None:
        """Disconnect from the viewer."""
        self._viewer.events.theme.disconnect(self._on_theme)

    @property
    def _small(self) -> QFont:
        """The font of the stages."""
        font = QFont(self.font())
        font.setPointSizeF(0.85 * font.pointSizeF())
        return font

    def resizeEvent(self, _event: QResizeEvent) -> None:
        """Use a second row if one is too narrow for the names."""
        self._fit_height()

    def _fit_height(self) -> None:
        height = round(self._rows_height + (_LINE if self._text else 0))
        if height != self.minimumHeight():
            self.setFixedHeight(height)

    @property
    def _rows_height(self) -> float:
        return _BAR * max(1, len(self._rows()))

    def sizeHint(self) -> QSize:
        """A width that fits the names in one or two rows."""
        return QSize(420, self.height())

    def event(self, event: QEvent) -> bool:
        """Show a tooltip about the stage under the pointer."""
        if event.type() == QEvent.Type.ToolTip and isinstance(event, QHelpEvent):
            position = QPointF(event.pos())
            for stage, box in zip(self._stages, self.boxes(), strict=True):
                if box.contains(position):
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
        line = QRectF(0, self._rows_height, self.width(), _LINE)
        painter.setFont(self.font())
        painter.setPen(QColor(colors.text))
        text = QFontMetricsF(self.font()).elidedText(
            self._text, Qt.TextElideMode.ElideRight, line.width()
        )
        painter.drawText(line, Qt.AlignmentFlag.AlignVCenter, text)

    def boxes(self) -> list[QRectF]:
        """A box for each stage; a row's width is divided in proportion to the names."""
        boxes = []
        for row, natural in enumerate(self._rows()):
            available = self.width() - _GAP * (len(natural) - 1) - 1
            left = 0.5
            for width in natural:
                width *= available / sum(natural)
                boxes.append(QRectF(left, _BAR * row + 0.5, width, _BAR - 2))
                left += width + _GAP
        return boxes

    def _rows(self) -> list[list[float]]:
        """Natural widths of the stages, in one row, or in two if one is too narrow."""
        metrics = QFontMetricsF(self._small)
        least = metrics.horizontalAdvance("✓ 00:00")
        widths = [
            max(metrics.horizontalAdvance(_name(stage)), least) + 2 * _PAD for stage in self._stages
        ]
        if not widths or sum(widths) + _GAP * len(widths) <= self.width():
            return [widths] if widths else []
        # Minimize the longer row.
        split = min(
            range(1, len(widths)), key=lambda k: max(sum(widths[:k]), sum(widths[k:])), default=1
        )
        return [row for row in (widths[:split], widths[split:]) if row]

    def _on_theme(self, _event: object = None) -> None:
        self.update()


def _paint_stage(
    painter: QPainter, stage: "StageProgress", box: QRectF, colors: ThemeColors
) -> None:
    outline = QPainterPath()
    outline.addRoundedRect(box, 4, 4)
    painter.fillPath(outline, QColor(colors.raised))
    fraction = _fraction(stage)
    if fraction:
        filled = QRectF(box.left(), box.top(), box.width() * fraction, box.height())
        part = QPainterPath()
        part.addRect(filled)
        painter.fillPath(outline.intersected(part), QColor(_FILLS[stage.state](colors)))
    painter.setPen(QColor(colors.chosen if stage.state == "running" else colors.faint))
    painter.drawPath(outline)
    painter.setPen(QColor(colors.dim if stage.state == "waiting" else colors.text))
    inner = box.adjusted(_PAD - 2, 2, 2 - _PAD, -2)
    upper = QRectF(inner.left(), inner.top(), inner.width(), inner.height() / 2)
    metrics = QFontMetricsF(painter.font())
    progress = _state_text(stage)
    if metrics.horizontalAdvance(progress) > inner.width():
        # The color also shows that it is done.
        progress = progress.removeprefix("✓ ")
    for line, text in ((upper, _name(stage)), (upper.translated(0, upper.height()), progress)):
        elided = metrics.elidedText(text, Qt.TextElideMode.ElideRight, line.width())
        painter.drawText(line, Qt.AlignmentFlag.AlignCenter, elided)


def _fraction(stage: "StageProgress") -> float:
    """Fraction of a stage that is done, 0 to 1."""
    if stage.state == "done":
        return 1.0
    return min(1.0, stage.step / stage.steps) if stage.state == "running" and stage.steps else 0.0


def _name(stage: "StageProgress") -> str:
    return STAGES[stage.name].title if stage.name in STAGES else stage.name


def _state_text(stage: "StageProgress") -> str:
    """The line below a stage's name."""
    if stage.state == "done":
        return f"✓ {format_clock(stage.seconds)}" if stage.steps else "✓"
    return f"{int(100 * _fraction(stage))} %" if stage.state == "running" else ""


def stage_tip(stage: "StageProgress") -> str:
    """Tooltip of a stage: description, progress and best score."""
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
    """One line about the progress of a run."""
    running = [stage for stage in history.stages.values() if stage.state == "running"]
    if not running:
        scored = history.state == "running" and all(
            stage.state == "done" for stage in history.stages.values()
        )
        return "Scoring the models…" if scored else ""
    stage, seconds = running[0], history.seconds_left(estimate)
    parts = [f"{_name(stage)}: step {stage.step} of {stage.steps}"]
    if history.state != "running":
        return parts[0]
    if seconds is not None:
        parts.append(f"about {format_duration(max(1, seconds))} left")
    else:
        seconds = history.stage_seconds_left()
        parts += [f"about {format_duration(seconds)} left of this stage"] if seconds else []
    return " · ".join(parts)
