"""A distillation of one's own: the student learns the teacher's answer in blocks of pixels."""

import sys
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from src_training import Recipe, distil
from src_training.distillation import METHODS, MethodOptions
from src_training.distillation.base import Distillation, ForwardOutputs, Weight
from src_training.distillation.registry import MethodSpec
from src_training.runs.events import Event, StageFinished


class BlocksOptions(MethodOptions):
    """What a recipe may set: the weight of each loss, and whatever else the method needs."""

    method: Literal["blocks"] = "blocks"
    blocks: Weight = 1.0
    side: Annotated[int, Field(ge=1)] = 4


class Blocks(Distillation[BlocksOptions]):
    """Compare mean probabilities of blocks: where roughly, and how much, not which pixel."""

    loss_names: ClassVar[tuple[str, ...]] = ("blocks",)

    def losses(
        self, teacher: ForwardOutputs, student: ForwardOutputs, mask: Tensor
    ) -> dict[str, Tensor]:
        """``blocks``: mean squared difference of the two networks' blocks."""
        side = self.options.side
        taught, learned = (
            F.avg_pool2d(each.logits.softmax(1), side) for each in (teacher, student)
        )
        return {"blocks": F.mse_loss(learned, taught)}


METHODS["blocks"] = MethodSpec(
    title="blocks", citation="a tutorial", options=BlocksOptions, parts=(Blocks,)
)


def train(recipe: str | Path, run: Path) -> None:
    """Train by a recipe, with this distillation in place of its own."""
    changed = {"distillation": "[{method: blocks, weight: 10, side: 8}]"}
    distil(Recipe.load(recipe, changed), run, listener=show)
    print((run / "report" / "report.md").read_text(encoding="utf-8"))


def show(event: Event) -> None:
    """Print the end of each stage; ``events.jsonl`` in the run has every step."""
    if isinstance(event, StageFinished):
        print(f"{event.stage}: {event.score:.3f} after {event.seconds:.0f} s", flush=True)


if __name__ == "__main__":
    train(sys.argv[1], Path(sys.argv[2]))
