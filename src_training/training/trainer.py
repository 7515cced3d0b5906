"""The training loop, the same for every stage."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from src_training.config.stages import StageSchedule
from src_training.data.sampling import Sampler
from src_training.training.callbacks import Callback
from src_training.training.checkpoint import (
    Progress,
    load_checkpoint,
    read_progress,
    require_settings,
    save_checkpoint,
    save_snapshot,
)
from src_training.training.distributed.process_group import ProcessGroup
from src_training.training.interruption import Interrupted, interruptible
from src_training.training.stages.base import Stage, Validation
from src_training.training.train_step import TrainStep


def fit(
    stage: Stage,
    schedule: StageSchedule,
    sampler: Sampler,
    validation: Validation,
    directory: Path,
    *,
    fabric: Fabric,
    seed: int,
    weight_decay: float,
    callbacks: Sequence[Callback] = (),
    stopping: Callable[[], bool] = lambda: False,
    settings: Mapping[str, Any] | None = None,
    before_write: Callable[[], None] = lambda: None,
) -> Progress:
    """Train a stage from its last checkpoint on, then load its best weights in evaluation mode.

    The random numbers and the learning rate of a step depend on its number alone, so
    that a stage that was interrupted and resumed ends with the same weights as one that was not.

    Parameters
    ----------
    stage, schedule
        What to train, and for how long.
    sampler, validation
        Source of training batches, and the data that the checkpoint is chosen on.
    directory
        Folder of ``last.safetensors`` and ``best.safetensors``.
    fabric
        Device, precision and processes; launched.
    seed, weight_decay
        See `Recipe`.
    callbacks
        Called after every step and validation.
    stopping
        Polled during training; true ends the stage at once, in the middle of a
        step, or before the next step if there are several processes.
    settings
        Fields of the recipe that the weights depend on; a checkpoint with other settings is
        refused.
    before_write
        Called before each checkpoint is written; an exception from it ends the stage.

    Returns
    -------
    Progress
        With `finished` true.

    Raises
    ------
    InputError
        If a checkpoint cannot be read, does not fit or has other settings, a
        loss is not finite, or memory is full with a single patch.
    Interrupted
        If `stopping` became true; the checkpoint includes every completed step.
    """
    last, best = directory / "last.safetensors", directory / "best.safetensors"
    if settings is not None and last.exists():
        require_settings(last, settings)
    if last.exists() and (done := read_progress(last)).finished:
        load_checkpoint(best, stage.trained)
        stage.eval()
        return done
    group = ProcessGroup(fabric)
    stage.train()
    train_step = TrainStep(
        stage,
        schedule,
        sampler,
        fabric=fabric,
        group=group,
        seed=seed,
        weight_decay=weight_decay,
        callbacks=callbacks,
    )
    files = _StageFiles(directory, settings, before_write)
    loop = _FitLoop(stage, schedule, validation, train_step, group, files, callbacks)
    interruption = interruptible(stage, stopping, slow=fabric.device.type == "cpu")
    # With several processes, one that left in the middle of a step would block the others.
    with interruption if group.world_size == 1 else nullcontext():
        loop.run(stopping)
    return loop.finish()


@dataclass(frozen=True)
class _StageFiles:
    """The checkpoints of a stage."""

    directory: Path
    settings: Mapping[str, Any] | None
    before_write: Callable[[], None]

    @property
    def last(self) -> Path:
        return self.directory / "last.safetensors"

    @property
    def best(self) -> Path:
        return self.directory / "best.safetensors"

    def write(
        self,
        path: Path,
        module: nn.Module,
        progress: Progress,
        optimiser: torch.optim.Optimizer | None = None,
    ) -> None:
        self.before_write()
        save_checkpoint(path, module, optimiser, progress, self.settings)

    def write_snapshot(
        self, trained: nn.Module, schedule: StageSchedule, progress: Progress
    ) -> None:
        self.before_write()
        save_snapshot(self.directory, trained, schedule, progress, self.settings)


class _FitLoop:
    """The loop over steps and validations of a stage, from its last checkpoint on."""

    def __init__(
        self,
        stage: Stage,
        schedule: StageSchedule,
        validation: Validation,
        train_step: TrainStep,
        group: ProcessGroup,
        files: _StageFiles,
        callbacks: Sequence[Callback],
    ) -> None:
        self._stage, self._schedule, self._validation = stage, schedule, validation
        self._train_step, self._group, self._callbacks = train_step, group, callbacks
        self._files = files
        self._progress = Progress()
        if files.last.exists():
            self._progress = load_checkpoint(
                files.last, stage.trainable_state, train_step.optimiser
            )
        # Every process must have read the checkpoint before rank 0 overwrites it.
        group.barrier()
        self._saved = self._progress
        self._began = time.monotonic() - self._progress.seconds

    def run(self, stopping: Callable[[], bool]) -> None:
        """Take the remaining steps."""
        name, steps = self._stage.name, self._schedule.steps
        for callback in self._callbacks:
            callback.on_stage_start(name, self._progress.step, steps)
        try:
            if self._progress.step == 0:
                self._save_snapshot()
                self._evaluate()
            while True:
                if self._validation_due():
                    self._validate()
                    self._save()
                    self._evaluate()
                if self._progress.step >= steps:
                    return
                if self._group.any(stopping()):
                    raise Interrupted
                result = self._train_step(self._progress.step)
                self._progress = replace(self._progress, step=result.step)
                for callback in self._callbacks:
                    callback.on_step_end(name, result.step, result.total, result.losses)
        except Interrupted:
            if self._progress != self._saved:
                self._save()
            raise

    def finish(self) -> Progress:
        """Mark the stage as finished, and load its best weights."""
        done, stage = replace(self._progress, finished=True), self._stage
        if self._group.is_rank_zero:
            self._files.write(self._files.last, stage.trained, done)
        self._group.barrier()
        load_checkpoint(self._files.best, stage.trained)
        stage.eval()
        for callback in self._callbacks:
            callback.on_stage_end(stage.name, done.score, done.seconds)
        return done

    def _validation_due(self) -> bool:
        """Whether this step needs a validation that no earlier process has done."""
        step, schedule = self._progress.step, self._schedule
        due = step >= schedule.steps or (step > 0 and step % schedule.validate_every == 0)
        return due and self._progress.validated < step

    def _validate(self) -> None:
        """Score the stage, and save its weights if they are the best so far."""
        step, best = self._progress.step, self._progress.score
        score = 0.0
        if self._group.is_rank_zero:
            with _evaluation(self._stage):
                score = self._stage.score(self._validation)
        score = self._group.broadcast(score)
        score = score if math.isfinite(score) else -math.inf
        better = score > best or best == -math.inf
        self._progress = replace(self._progress, validated=step, score=score if better else best)
        if better and self._group.is_rank_zero:
            self._files.write(self._files.best, self._stage.trained, self._progress)
        self._save_snapshot()
        for callback in self._callbacks:
            callback.on_validation_end(self._stage.name, step, score, better)

    def _save(self) -> None:
        """Write a checkpoint of the current step."""
        seconds = time.monotonic() - self._began
        self._progress = self._saved = replace(self._progress, seconds=seconds)
        if self._group.is_rank_zero:
            self._files.write(
                self._files.last,
                self._stage.trainable_state,
                self._progress,
                self._train_step.optimiser,
            )

    def _save_snapshot(self) -> None:
        if self._group.is_rank_zero and self._stage.saves_snapshots:
            self._files.write_snapshot(self._stage.trained, self._schedule, self._progress)

    def _evaluate(self) -> None:
        """Call `on_evaluation` with the stage in evaluation mode."""
        with _evaluation(self._stage):
            for callback in self._callbacks:
                callback.on_evaluation(self._stage, self._progress.step)


@contextmanager
def _evaluation(stage: Stage) -> Iterator[None]:
    stage.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        stage.train()
