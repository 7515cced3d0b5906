"""The figures of a result, recomputed after each change of its labels."""

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject
from superqt.utils import qdebounced

from napari_msankd.planes import Index
from napari_msankd.segment.live_labels import LiveLabels
from napari_msankd.segment.metrics import Scores, compare, label_volume, measure
from napari_msankd.segment.quality import ResultQuality, expected_text, slice_curve
from napari_msankd.segment.state import Figure, SegmentState
from napari_msankd.workers import Failure, WorkerGroup
from src_training.errors import InputError

if TYPE_CHECKING:
    from napari.layers import Labels

_REST_MS = 150


class ResultFigures:
    """Compute expected Dice, scores against a reference and volumes of a result in workers.

    Parameters
    ----------
    state
        State to write the figures to.
    workers
        Group for the workers.
    parent
        Qt parent of the timers.
    """

    def __init__(self, state: SegmentState, workers: WorkerGroup, parent: QObject) -> None:
        self._state, self._workers = state, workers
        self._run: LiveLabels | None = None
        self._reference: Labels | None = None
        self._quality: ResultQuality | None = None
        self._dice: dict[Index, float] = {}
        self._score_soon = qdebounced(self._score, timeout=_REST_MS, parent=parent)
        self._measure_soon = qdebounced(self._measure, timeout=_REST_MS, parent=parent)

    def show(self, run: LiveLabels | None) -> None:
        """Show the figures of a run; clear those of the former run and cancel its workers."""
        for figure in ("score", "measure", "assess"):
            self._workers.cancel(figure)
        self._run, self._quality, self._dice = run, None, {}
        self._state.clear_figures()
        if run is not None:
            run.outdated.connect(self._state.outdate_figures)
            run.changed.connect(self._score_soon)
            run.changed.connect(self._measure_soon)

    def compare_with(self, reference: "Labels | None") -> None:
        """Choose the reference."""
        self._reference, self._state.scores = reference, Figure()
        self._set_dice({})
        self._score_soon()

    def reference_edited(self) -> None:
        """Recompute the scores after a change of the reference."""
        self._state.scores = self._state.scores.outdated()
        self._score_soon()

    def stop(self) -> None:
        """Cancel pending computations."""
        self._score_soon.cancel()
        self._measure_soon.cancel()

    def _score(self) -> None:
        self._workers.cancel("score")
        reference, run = self._reference, self._run
        if reference is None or run is None or run.layer is None or run.result is None:
            self._state.scores = Figure()
            self._set_dice({})
            if run is not None:
                run.write_scores(None)
        elif reference == run.layer:
            self._show_problem("The reference is the result itself. Choose another layer.")
        elif not run.running and run.result.finished:
            try:
                steps: Any = compare(run.compared_with(reference))
            except InputError as error:
                self._show_problem(f"⚠ {error}")
                return
            self._workers.start("score", steps, self._on_scores, self._on_score_failed)

    def _on_scores(self, scores: Scores | None) -> None:
        if scores is not None and self._run is not None and self._reference is not None:
            self._state.scores = Figure(str(scores))
            self._run.write_scores(scores, self._reference.name)
            self._set_dice(scores.slices)

    def _on_score_failed(self, failure: Failure) -> None:
        self._show_problem(f"⚠ {failure.sentence}")

    def _show_problem(self, text: str) -> None:
        self._state.scores = Figure(text)
        self._set_dice({})

    def _measure(self) -> None:
        """Compute expected Dice and, if the layer has physical units, volumes."""
        self._workers.cancel("measure")
        run = self._run
        if run is None or run.layer is None or run.model is None or run.result is None:
            return
        if run.running:
            return
        if run.slices:
            self._workers.start("assess", run.assess(), self._on_quality)  # type: ignore[arg-type]
        volume = label_volume(run.layer, run.request, run.result.finished, run.model.classes)
        if volume is not None:
            self._workers.start("measure", measure(volume), self._on_volumes)  # type: ignore[arg-type]

    def _on_quality(self, quality: ResultQuality | None) -> None:
        if quality is not None and self._run is not None:
            self._quality = quality
            self._run.write_quality(quality)
            self._state.expected = Figure(expected_text(quality))
            self._set_dice(self._dice)

    def _on_volumes(self, volumes: str | None) -> None:
        if volumes is not None:
            self._state.volumes = Figure(volumes)

    def _set_dice(self, dice: dict[Index, float]) -> None:
        """Set the real Dice of slices, and update the curve."""
        self._dice = dice
        stack = () if self._run is None else self._run.request.planes.slicing.stack
        self._state.curve = slice_curve(self._quality, dice, stack)
