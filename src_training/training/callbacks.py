"""What a trainer tells while a stage trains."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from src_training.training.stages.base import Stage


class Callback:
    """Hooks of `fit`; each does nothing unless a subclass overrides it.

    Steps are counted from 1, and `step` is the number of steps done.
    """

    def on_stage_start(self, stage: str, step: int, steps: int) -> None:
        """A stage begins; `step` is above 0 where it resumes."""

    def on_batch_split(self, stage: str, step: int, batch: int, parts: int) -> None:
        """Memory was full: from this step on the batch is taken in parts, gradients summed."""

    def on_step_end(self, stage: str, step: int, total: float, losses: Mapping[str, float]) -> None:
        """An optimisation step is done: its weighted total, and unweighted losses by name."""

    def on_validation_end(self, stage: str, step: int, score: float, best: bool) -> None:
        """A stage was scored (more is better); `best` if its checkpoint was replaced."""

    def on_evaluation(self, stage: "Stage", step: int) -> None:
        """The stage stands in evaluation mode: before its first step and after a validation."""

    def on_stage_end(self, stage: str, score: float, seconds: float) -> None:
        """A stage is done: its best score, and the seconds that all its steps took."""
