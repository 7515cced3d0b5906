"""The training loop, written once; it knows no stage."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from lightning_fabric import Fabric

from src_training.data.patches import Patches
from src_training.events import Event, StageFinished, StageStarted, Validated
from src_training.recipe import StageRecipe
from src_training.training.checkpoint import (
    Progress,
    load_checkpoint,
    read_progress,
    save_checkpoint,
)
from src_training.training.descent import Descent
from src_training.training.interruption import Interrupted, interruptible
from src_training.training.ranks import Ranks
from src_training.training.stages import Stage, Validation

Watch = Callable[[Stage, int], None]


def learn(
    stage: Stage,
    plan: StageRecipe,
    patches: Patches,
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
        Asked all the time; true ends the stage at once, in the middle of a step.
    watch
        Shown the stage and its step, in evaluation mode: before the first
        step and after every validation.

    Returns
    -------
    Progress
        With `finished` true.

    Raises
    ------
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
    descent = Descent(
        stage,
        plan,
        patches,
        fabric=fabric,
        ranks=ranks,
        seed=seed,
        weight_decay=weight_decay,
        emit=emit,
    )
    progress = Progress()
    if last.exists():
        progress = load_checkpoint(last, stage.trained, descent.optimiser)
    ranks.wait()
    kept = progress
    emit(StageStarted(stage=stage.name, step=progress.step, steps=plan.steps))
    began = time.monotonic() - progress.seconds

    def keep() -> None:
        nonlocal progress, kept
        progress = kept = replace(progress, seconds=time.monotonic() - began)
        if ranks.first:
            save_checkpoint(last, stage.trained, descent.optimiser, progress)

    try:
        # One of several processes cannot leave the others alone in the middle of a step.
        with interruptible(stage, stopping) if ranks.count == 1 else nullcontext():
            if progress.step == 0:
                with _evaluated(stage):
                    watch(stage, 0)
            while True:
                if _due(progress, plan):
                    with _evaluated(stage):
                        progress = _validated(stage, validation, progress, best, ranks, emit)
                        keep()
                        watch(stage, progress.step)
                if progress.step == plan.steps:
                    break
                if ranks.any(stopping()):
                    raise Interrupted
                said = descent.step(progress.step)
                progress = replace(progress, step=said.step)
                emit(said)
    except Interrupted:
        if progress != kept:
            keep()
        raise
    finished = replace(progress, finished=True)
    if ranks.first:
        save_checkpoint(last, stage.trained, None, finished)
    ranks.wait()
    load_checkpoint(best, stage.trained)
    stage.eval()
    emit(StageFinished(stage=stage.name, score=finished.score, seconds=finished.seconds))
    return finished


def _due(progress: Progress, plan: StageRecipe) -> bool:
    """Whether a validation is due, and was not done before an interruption."""
    step = progress.step
    due = step == plan.steps or (step > 0 and step % plan.validate_every == 0)
    return due and progress.validated < step


@contextmanager
def _evaluated(stage: Stage) -> Iterator[None]:
    stage.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        stage.train()


def _validated(
    stage: Stage,
    validation: Validation,
    progress: Progress,
    best: Path,
    ranks: Ranks,
    emit: Callable[[Event], None],
) -> Progress:
    """Score the stage, and keep its weights where they are the best so far."""
    score = ranks.told(stage.score(validation) if ranks.first else 0.0)
    score = score if math.isfinite(score) else -math.inf
    better = score > progress.score or progress.score == -math.inf
    progress = replace(progress, validated=progress.step)
    if better:
        progress = replace(progress, score=score)
        if ranks.first:
            save_checkpoint(best, stage.trained, None, progress)
    emit(Validated(stage=stage.name, step=progress.step, score=score, best=better))
    return progress
