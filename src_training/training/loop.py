"""The training loop, written once; it knows no stage."""

import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from lightning_fabric import Fabric

from src_training.data.patches import Patches
from src_training.errors import InputError
from src_training.events import Event, StageFinished, StageStarted, StepDone, Validated
from src_training.recipe import StageRecipe
from src_training.training.checkpoint import (
    Progress,
    load_checkpoint,
    read_progress,
    save_checkpoint,
)
from src_training.training.stages import Stage, Validation

WARM_UP = 0.05


class Interrupted(Exception):
    """The run was asked to stop; what is done is on disk."""


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
        Owns device, precision and processes.
    seed, weight_decay
        Of the recipe.
    emit
        Takes every event.
    stopping
        Asked after each step; true ends the stage.

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
    learner, optimiser, progress = _resumed(stage, plan, weight_decay, last, fabric)
    emit(StageStarted(stage=stage.name, step=progress.step, steps=plan.steps))
    began = time.monotonic() - progress.seconds
    while progress.step < plan.steps:
        step = progress.step
        torch.manual_seed(step_seed(seed, stage.name, step))
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, plan.steps, plan.rate)
        losses = learner(patches.draw(plan.batch, stage.views, fabric.device))
        total = stage.total(losses)
        _check_finite(total, stage.name, step)
        optimiser.zero_grad()
        fabric.backward(total)
        optimiser.step()
        said = {name: float(loss.detach()) for name, loss in losses.items()}
        emit(StepDone(stage=stage.name, step=step + 1, total=float(total.detach()), losses=said))
        progress = replace(progress, step=step + 1, seconds=time.monotonic() - began)
        due = progress.step % plan.validate_every == 0 or progress.step == plan.steps
        if due:
            progress = _validated(stage, validation, progress, best, emit)
        stop = stopping()
        if due or stop:
            save_checkpoint(last, stage.trained, optimiser, progress)
        if stop and progress.step < plan.steps:
            raise Interrupted
    if not best.exists():
        progress = _validated(stage, validation, progress, best, emit)
    finished = replace(progress, finished=True)
    save_checkpoint(last, stage.trained, optimiser, finished)
    load_checkpoint(best, stage.trained)
    stage.eval()
    emit(StageFinished(stage=stage.name, score=finished.score, seconds=finished.seconds))
    return finished


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up over the first twentieth, then a cosine towards zero."""
    warm = max(1, round(WARM_UP * steps))
    if step < warm:
        return peak * (step + 1) / warm
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def step_seed(seed: int, stage: str, step: int | str) -> int:
    """A seed for one step of one stage, independent of every other's."""
    text = f"{seed}/{stage}/{step}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=7).digest(), "big")


def _resumed(
    stage: Stage, plan: StageRecipe, weight_decay: float, last: Path, fabric: Fabric
) -> tuple[Callable[..., dict[str, torch.Tensor]], torch.optim.Optimizer, Progress]:
    learnable = [parameter for parameter in stage.trained.parameters() if parameter.requires_grad]
    adam = torch.optim.Adam(learnable, lr=plan.rate, weight_decay=weight_decay)
    stage.train()
    learner, optimiser = fabric.setup(stage, adam)
    progress = load_checkpoint(last, stage.trained, adam) if last.exists() else Progress()
    return learner, optimiser, progress


def _check_finite(total: torch.Tensor, stage: str, step: int) -> None:
    if not torch.isfinite(total):
        raise InputError(
            f"stages.{stage}.rate: the loss is {total.item()} at step {step + 1}; "
            "expected a finite number (a lower rate helps)"
        )


def _validated(
    stage: Stage,
    validation: Validation,
    progress: Progress,
    best: Path,
    emit: Callable[[Event], None],
) -> Progress:
    """Score the stage, and keep its weights where they are the best so far."""
    stage.eval()
    with torch.no_grad():
        score = stage.score(validation)
        score = score if math.isfinite(score) else -math.inf
    stage.train()
    better = score > progress.score or not best.exists()
    if better:
        save_checkpoint(best, stage.trained, None, replace(progress, score=score))
        progress = replace(progress, score=score)
    emit(Validated(stage=stage.name, step=progress.step, score=score, best=better))
    return progress
