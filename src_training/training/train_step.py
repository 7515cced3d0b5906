"""The steps of a stage: draw, descend, and go on in parts where memory is full."""

import math
from collections.abc import Callable
from contextlib import nullcontext

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from src_training.config.recipe import StageRecipe
from src_training.data.sampling import Batch, Sampler
from src_training.distillation.base import exact
from src_training.errors import InputError
from src_training.runs.events import BatchSplit, Event, StepDone
from src_training.seeds import step_seed
from src_training.training.distributed.ranks import Ranks, parts_of
from src_training.training.distributed.whole_batch import RemoteOutOfMemory
from src_training.training.interruption import Interrupted
from src_training.training.schedule import learning_rate
from src_training.training.stages.base import Stage


class TrainStep:
    """Takes the optimisation steps of a stage; a step is taken whole or not at all.

    Parameters
    ----------
    stage
        Is moved to the device, and learns.
    plan
        Its batch and rate.
    patches
        What it learns from.
    fabric, ranks
        Own device, precision and processes.
    seed, weight_decay
        Of the recipe.
    emit
        Takes `BatchSplit`.

    Attributes
    ----------
    optimiser
        Adam with decoupled weight decay, over what learns in the stage.
    """

    def __init__(
        self,
        stage: Stage,
        plan: StageRecipe,
        patches: Sampler,
        *,
        fabric: Fabric,
        ranks: Ranks,
        seed: int,
        weight_decay: float,
        emit: Callable[[Event], None],
    ) -> None:
        self._stage, self._plan, self._patches = stage, plan, patches
        self._fabric, self._ranks = fabric, ranks
        self._seed, self._emit = seed, emit
        fabric.to_device(stage)
        groups = stage.groups()
        self._learnt = [parameter for group in groups for parameter in group["params"]]
        self.optimiser = torch.optim.AdamW(groups, lr=plan.rate, weight_decay=weight_decay)
        self._peaks = [group["lr"] for group in self.optimiser.param_groups]
        self._scaled = fabric.setup_optimizers(self.optimiser)
        self._statistics = _Statistics(stage.learning)
        self._parts, self._labelled = 1, plan.batch

    def step(self, number: int) -> StepDone:
        """Take the step after `number` others.

        Raises
        ------
        InputError
            If the loss is not finite, or memory is full with a single labelled patch.
        Interrupted
            From a hook of `interruptible`; weights and statistics are those before the step.
        """
        plan = self._plan
        for group, peak in zip(self.optimiser.param_groups, self._peaks, strict=True):
            group["lr"] = learning_rate(number, plan.steps, peak)
        self._statistics.keep()
        while (losses := self._gradients(number)) is None:
            self._split(number)
        self._ranks.sum_gradients(self._learnt)
        self._scaled.step()
        return StepDone(
            stage=self._stage.name, step=number + 1, total=losses.pop("total"), losses=losses
        )

    def _gradients(self, number: int) -> dict[str, float] | None:
        """Gradients of the batch, and its losses with their total; None where memory was full."""
        losses = None
        try:
            losses = self._summed(number)
        except Interrupted:
            self._statistics.restore()
            raise
        except RemoteOutOfMemory:
            return None
        except torch.OutOfMemoryError:
            pass
        if self._ranks.any(losses is None) or losses is None:
            return None
        values = self._ranks.sum(torch.stack(list(losses.values()))).tolist()
        said = dict(zip(losses, values, strict=True))
        _check_finite(said["total"], self._stage.name, number)
        return said

    def _summed(self, number: int) -> dict[str, Tensor]:
        """Add up losses and gradients over the parts of this process's share."""
        torch.manual_seed(step_seed(self._seed, self._stage.name, number))
        self._scaled.zero_grad()
        drawn = self._patches.sample(self._plan.batch, self._stage.views, self._fabric.device)
        self._labelled = len(drawn.mask)
        sums: dict[str, Tensor] = {}
        parts = parts_of(self._ranks.share(drawn), self._parts)
        # Processes may differ in how many parts they have: then none waits for another.
        with self._ranks.spread(drawn) if self._parts == 1 else nullcontext():
            for part in (part for part in parts if len(part.image)):
                for name, loss in self._backward(part).items():
                    sums[name] = sums[name] + loss if name in sums else loss
        return sums

    def _backward(self, part: Batch) -> dict[str, Tensor]:
        """Losses of a part, weighted by its share of the batch, after their gradients."""
        with self._fabric.autocast():
            losses = self._stage(part)
        losses = {name: exact(loss) for name, loss in losses.items()}
        share = len(part.image) / self._plan.batch
        total = self._stage.total(losses)
        self._fabric.backward(total * share)
        return {name: loss.detach() * share for name, loss in {"total": total, **losses}.items()}

    def _split(self, number: int) -> None:
        """Go on in twice as many parts."""
        stage, batch = self._stage.name, self._plan.batch
        # The failed pass counted into the running statistics.
        self._statistics.restore()
        self._scaled.zero_grad()
        largest = -(-self._labelled // self._ranks.count)
        device = self._fabric.device
        if self._parts >= largest:
            raise InputError(
                f"stages.{stage}.batch is {batch}: the memory of {device} is full with one "
                "labelled patch at a time; expected a smaller patch or a smaller network"
            )
        if device.type == "cuda":
            torch.cuda.empty_cache()
        self._parts = min(2 * self._parts, largest)
        self._emit(BatchSplit(stage=stage, step=number + 1, batch=batch, parts=self._parts))


class _Statistics:
    """The running statistics of a module as they were before a step: passes change them."""

    def __init__(self, module: nn.Module) -> None:
        # A type at a time: then each is one kernel on a GPU.
        kinds: dict[torch.dtype, list[Tensor]] = {}
        for buffer in module.buffers():
            kinds.setdefault(buffer.dtype, []).append(buffer)
        self._now = list(kinds.values())
        self._kept = [[buffer.clone() for buffer in kind] for kind in self._now]

    def keep(self) -> None:
        for kept, now in zip(self._kept, self._now, strict=True):
            torch._foreach_copy_(kept, now)

    def restore(self) -> None:
        for kept, now in zip(self._kept, self._now, strict=True):
            torch._foreach_copy_(now, kept)


def _check_finite(total: float, stage: str, number: int) -> None:
    if not math.isfinite(total):
        raise InputError(
            f"stages.{stage}.rate: the loss is {total} at step {number + 1}; "
            "expected a finite number (a lower rate helps)"
        )
