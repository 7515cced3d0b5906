"""Callbacks of the training loop."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from src_training.training.stages.base import Stage


class Callback:
    """Hooks of `fit`; each does nothing unless a subclass overrides it.

    Steps are counted from 1, and `step` is the number of steps done.
    """

    def on_stage_start(self, stage: str, step: int, steps: int) -> None:
        """Called when a stage begins; `step` is above 0 if it is resumed."""

    def on_batch_split(self, stage: str, step: int, batch: int, parts: int) -> None:
        """Called when memory is full: from `step` on, gradients are accumulated over `parts`."""

    def on_step_end(self, stage: str, step: int, total: float, losses: Mapping[str, float]) -> None:
        """Called after a step, with the weighted sum of the losses and each unweighted loss."""

    def on_validation_end(self, stage: str, step: int, score: float, best: bool) -> None:
        """Called after a validation; a higher score is better, and `best` if it is a new best."""

    def on_evaluation(self, stage: "Stage", step: int) -> None:
        """Called with the stage in evaluation mode, before its first step and after validations."""

    def on_stage_end(self, stage: str, score: float, seconds: float) -> None:
        """Called when a stage ends, with its best score and its training time in seconds."""
