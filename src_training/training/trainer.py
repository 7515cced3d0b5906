"""The training loop, written once; it knows no stage."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from lightning_fabric import Fabric

from src_training.config.recipe import StageRecipe
from src_training.data.sampling import Sampler
from src_training.runs.events import Event, StageFinished, StageStarted, Validated
from src_training.training.checkpoint import (
    Progress,
    load_checkpoint,
    read_progress,
    save_checkpoint,
)
from src_training.training.distributed.ranks import Ranks
from src_training.training.interruption import Interrupted, interruptible
from src_training.training.snapshots import save_snapshot
from src_training.training.stages.base import Stage, Validation
from src_training.training.train_step import TrainStep

Watch = Callable[[Stage, int], None]


def fit(
    stage: Stage,
    plan: StageRecipe,
    patches: Sampler,
    validation: Validation,
    folder: Path,
    *,
    fabric: Fabric,
    seed: int,
    weight_decay: float,
    emit: Callable[[Event], None],
    stopping: Callable[[], bool],
    watch: Watch = lambda _stage, _step: None,
) -> Progress:
    """Train a stage, from where its checkpoint left off; leave its best weights, to evaluate.

    A step's randomness and learning rate follow from its number alone, so an
    interrupted stage ends with the weights of an uninterrupted one.

    Parameters
    ----------
    stage, plan
        What to train, and for how long.
    patches, validation
        What to learn from, and what chooses the checkpoint.
    folder
        Holds ``last.safetensors`` and ``best.safetensors``.
    fabric
        Owns device, precision and processes; launched.
    seed, weight_decay
        Of the recipe.
    emit
        Takes every event.
    stopping
        Asked all the time; true ends the stage at once, in the middle of a
        step; with several processes, before the next one.
    watch
        Shown the stage and its step, in evaluation mode: before the first
        step and after every validation.

    Returns
    -------
    Progress
        With `finished` true.

    Raises
    ------
    InputError
        If a checkpoint cannot be read or does not fit, a loss is not finite,
        or memory is full with a single patch.
    Interrupted
        If `stopping` said so; the checkpoint holds every step done.
    """
    last, best = folder / "last.safetensors", folder / "best.safetensors"
    if last.exists() and (done := read_progress(last)).finished:
        load_checkpoint(best, stage.trained)
        stage.eval()
        return done
    ranks = Ranks(fabric)
    stage.train()
    descent = TrainStep(
        stage,
        plan,
        patches,
        fabric=fabric,
        ranks=ranks,
        seed=seed,
        weight_decay=weight_decay,
        emit=emit,
    )
    course = _FitLoop(stage, plan, validation, descent, ranks, folder, emit)
    asking = interruptible(stage, stopping, slow=fabric.device.type == "cpu")
    # One of several processes cannot leave the others alone in the middle of a step.
    with asking if ranks.count == 1 else nullcontext():
        course.run(stopping, watch)
    return course.finish()


class _FitLoop:
    """A stage on its way from its last checkpoint to its last step."""

    def __init__(
        self,
        stage: Stage,
        plan: StageRecipe,
        validation: Validation,
        descent: TrainStep,
        ranks: Ranks,
        folder: Path,
        emit: Callable[[Event], None],
    ) -> None:
        self._stage, self._plan, self._validation = stage, plan, validation
        self._descent, self._ranks, self._emit = descent, ranks, emit
        self._folder = folder
        self._last, self._best = folder / "last.safetensors", folder / "best.safetensors"
        self._progress = Progress()
        if self._last.exists():
            self._progress = load_checkpoint(self._last, stage.learning, descent.optimiser)
        # None writes before all have read.
        ranks.wait()
        self._kept = self._progress
        self._began = time.monotonic() - self._progress.seconds

    def run(self, stopping: Callable[[], bool], watch: Watch) -> None:
        """Take every step that is left."""
        done, steps = self._progress.step, self._plan.steps
        self._emit(StageStarted(stage=self._stage.name, step=done, steps=steps))
        try:
            if done == 0:
                self._keep_weights()
                self._look(watch)
            while True:
                if self._due():
                    self._validate()
                    self._keep()
                    self._look(watch)
                if self._progress.step == steps:
                    return
                if self._ranks.any(stopping()):
                    raise Interrupted
                said = self._descent.step(self._progress.step)
                self._progress = replace(self._progress, step=said.step)
                self._emit(said)
        except Interrupted:
            if self._progress != self._kept:
                self._keep()
            raise

    def finish(self) -> Progress:
        """Leave the best weights."""
        done, stage = replace(self._progress, finished=True), self._stage
        if self._ranks.first:
            save_checkpoint(self._last, stage.trained, None, done)
        self._ranks.wait()
        load_checkpoint(self._best, stage.trained)
        stage.eval()
        self._emit(StageFinished(stage=stage.name, score=done.score, seconds=done.seconds))
        return done

    def _due(self) -> bool:
        """Whether a validation is due, and was not done before an interruption."""
        step, plan = self._progress.step, self._plan
        due = step == plan.steps or (step > 0 and step % plan.validate_every == 0)
        return due and self._progress.validated < step

    def _validate(self) -> None:
        """Score the stage, and keep its weights where they are the best so far."""
        step, best = self._progress.step, self._progress.score
        score = 0.0
        if self._ranks.first:
            with _evaluated(self._stage):
                score = self._stage.score(self._validation)
        score = self._ranks.told(score)
        score = score if math.isfinite(score) else -math.inf
        better = score > best or best == -math.inf
        self._progress = replace(self._progress, validated=step, score=score if better else best)
        if better and self._ranks.first:
            save_checkpoint(self._best, self._stage.trained, None, self._progress)
        self._keep_weights()
        self._emit(Validated(stage=self._stage.name, step=step, score=score, best=better))

    def _keep(self) -> None:
        """Write down every step done."""
        seconds = time.monotonic() - self._began
        self._progress = self._kept = replace(self._progress, seconds=seconds)
        if self._ranks.first:
            save_checkpoint(
                self._last, self._stage.learning, self._descent.optimiser, self._progress
            )

    def _keep_weights(self) -> None:
        """Leave these weights for who looks back at the stage's course."""
        if self._ranks.first and self._stage.keeps:
            save_snapshot(self._folder, self._stage.trained, self._plan, self._progress)

    def _look(self, watch: Watch) -> None:
        with _evaluated(self._stage):
            watch(self._stage, self._progress.step)


@contextmanager
def _evaluated(stage: Stage) -> Iterator[None]:
    stage.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        stage.train()
