"""Weights of a stage along its course, for who looks back at it."""

from pathlib import Path

from torch import nn

from src_training.config.recipe import StageRecipe
from src_training.training.checkpoint import Progress, save_checkpoint

MOST = 20


def snapshot_steps(plan: StageRecipe) -> list[int]:
    """The steps whose weights are kept: the first, the last, and validations between.

    At most `MOST`, evenly spread; known before the first step, so that an
    interruption changes nothing.
    """
    validated = [*range(0, plan.steps, plan.validate_every), plan.steps]
    if len(validated) <= MOST:
        return validated
    return [validated[i * (len(validated) - 1) // (MOST - 1)] for i in range(MOST)]


def save_snapshot(folder: Path, trained: nn.Module, plan: StageRecipe, progress: Progress) -> None:
    """Write the weights of a step to a stage's folder, if they are to be kept."""
    if progress.step in snapshot_steps(plan):
        save_checkpoint(_kept(folder, progress.step), trained, None, progress)


def snapshot_files(folder: Path) -> dict[int, Path]:
    """Step -> file of the weights that a stage has kept so far, in the order of steps."""
    files = folder.glob("kept/[0-9]*.safetensors")
    return dict(sorted((int(file.stem), file) for file in files))


def _kept(folder: Path, step: int) -> Path:
    return folder / "kept" / f"{step}.safetensors"
