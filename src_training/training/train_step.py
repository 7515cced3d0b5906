"""One optimisation step of a stage, taken in parts where memory is full."""

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import NamedTuple

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from src_training.config.stages import STAGES, StageSchedule
from src_training.data.sampling import Batch, Sampler
from src_training.distillation.base import exact
from src_training.errors import MEMORY_ERRORS, InputError, is_out_of_memory
from src_training.seeds import step_seed
from src_training.training.callbacks import Callback
from src_training.training.distributed.process_group import ProcessGroup, split_batch
from src_training.training.distributed.sync_batch import RemoteOutOfMemory, sync_batch
from src_training.training.interruption import Interrupted
from src_training.training.schedule import learning_rate
from src_training.training.stages.base import Stage


class StepResult(NamedTuple):
    """What an optimisation step came to.

    Attributes
    ----------
    stage
        Name of the stage.
    step
        Steps done, this one included.
    total
        The weighted sum of the losses, finite.
    losses
        Unweighted losses of the whole batch by name.
    """

    stage: str
    step: int
    total: float
    losses: Mapping[str, float]


class TrainStep:
    """Takes the optimisation steps of a stage; a step is taken whole or not at all.

    Parameters
    ----------
    stage
        Is moved to the device, and trained.
    schedule
        Its batch and learning rate.
    sampler
        What it is trained on.
    fabric, group
        Own device, precision and processes.
    seed, weight_decay
        See `Recipe`.
    callbacks
        Told where a batch is split.

    Attributes
    ----------
    optimiser
        AdamW over the stage's parameter groups.
    """

    def __init__(
        self,
        stage: Stage,
        schedule: StageSchedule,
        sampler: Sampler,
        *,
        fabric: Fabric,
        group: ProcessGroup,
        seed: int,
        weight_decay: float,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        self._stage, self._schedule, self._sampler = stage, schedule, sampler
        self._fabric, self._group = fabric, group
        self._seed, self._callbacks = seed, callbacks
        spec = STAGES.get(stage.name)
        self._seed_key = (spec and spec.seed_key) or stage.name
        fabric.to_device(stage)
        groups = stage.param_groups()
        self._parameters = [parameter for group in groups for parameter in group["params"]]
        self.optimiser = torch.optim.AdamW(groups, lr=schedule.rate, weight_decay=weight_decay)
        self._peaks = [group["lr"] for group in self.optimiser.param_groups]
        self._scaled_optimiser = fabric.setup_optimizers(self.optimiser)
        self._statistics = _RunningStatistics(stage.trainable_state)
        self._accumulation_steps, self._labelled = 1, schedule.batch

    def __call__(self, number: int) -> StepResult:
        """Take the step after `number` others.

        Raises
        ------
        InputError
            If the loss is not finite, or memory is full with a single labelled patch.
        Interrupted
            From a hook of `interruptible`; weights and statistics are those before the step.
        """
        schedule = self._schedule
        for group, peak in zip(self.optimiser.param_groups, self._peaks, strict=True):
            group["lr"] = learning_rate(number, schedule.steps, peak)
        self._statistics.save()
        while (losses := self._gradients(number)) is None:
            self._split(number)
        self._group.all_reduce_gradients(self._parameters)
        self._scaled_optimiser.step()
        return StepResult(self._stage.name, number + 1, losses.pop("total"), losses)

    def _gradients(self, number: int) -> dict[str, float] | None:
        """Gradients of the batch, and its losses with their total; None where memory was full."""
        losses = None
        try:
            losses = self._accumulate(number)
        except Interrupted:
            self._statistics.restore()
            raise
        except RemoteOutOfMemory:
            return None
        except MEMORY_ERRORS as error:
            if not is_out_of_memory(error):
                raise
        if self._group.any(losses is None) or losses is None:
            return None
        values = self._group.all_reduce(torch.stack(list(losses.values()))).tolist()
        found = dict(zip(losses, values, strict=True))
        _check_finite(found["total"], self._stage.name, number)
        return found

    def _accumulate(self, number: int) -> dict[str, Tensor]:
        """Add up losses and gradients over the parts of this process's share."""
        torch.manual_seed(step_seed(self._seed, self._seed_key, number))
        self._scaled_optimiser.zero_grad()
        stage, device = self._stage, self._fabric.device
        batch = stage.prepare(self._sampler.sample(self._schedule.batch, stage.views, device))
        self._labelled = len(batch.mask)
        sums: dict[str, Tensor] = {}
        parts = split_batch(self._group.shard(batch), self._accumulation_steps)
        # Processes may differ in how many parts they have: then none waits for another.
        alone = self._accumulation_steps > 1
        with nullcontext() if alone else sync_batch(self._group, batch):
            for part in (part for part in parts if len(part.image)):
                for name, loss in self._backward(part).items():
                    sums[name] = sums[name] + loss if name in sums else loss
        return sums

    def _backward(self, part: Batch) -> dict[str, Tensor]:
        """Losses of a part, weighted by its share of the batch, after their gradients."""
        with self._fabric.autocast():
            losses = self._stage(part)
        losses = {name: exact(loss) for name, loss in losses.items()}
        share = len(part.image) / self._schedule.batch
        total = self._stage.total(losses)
        self._fabric.backward(total * share)
        return {name: loss.detach() * share for name, loss in {"total": total, **losses}.items()}

    def _split(self, number: int) -> None:
        """Take the batch in twice as many parts from now on."""
        stage, batch = self._stage.name, self._schedule.batch
        # The failed pass counted into the running statistics.
        self._statistics.restore()
        self._scaled_optimiser.zero_grad()
        largest = -(-self._labelled // self._group.world_size)
        device = self._fabric.device
        if self._accumulation_steps >= largest:
            raise InputError(
                f"stages.{stage}.batch is {batch}: the memory of {device} is full with one "
                "labelled patch at a time; expected a smaller patch or a smaller network"
            )
        if device.type == "cuda":
            torch.cuda.empty_cache()
        self._accumulation_steps = min(2 * self._accumulation_steps, largest)
        for callback in self._callbacks:
            callback.on_batch_split(stage, number + 1, batch, self._accumulation_steps)


class _RunningStatistics:
    """A module's running statistics as they were before a step: forward passes change them."""

    def __init__(self, module: nn.Module) -> None:
        # A type at a time: then each is one kernel on a GPU.
        kinds: dict[torch.dtype, list[Tensor]] = {}
        for buffer in module.buffers():
            kinds.setdefault(buffer.dtype, []).append(buffer)
        self._buffers = list(kinds.values())
        self._copies = [[buffer.clone() for buffer in kind] for kind in self._buffers]

    def save(self) -> None:
        for copy, buffer in zip(self._copies, self._buffers, strict=True):
            torch._foreach_copy_(copy, buffer)

    def restore(self) -> None:
        for copy, buffer in zip(self._copies, self._buffers, strict=True):
            torch._foreach_copy_(buffer, copy)


def _check_finite(total: float, stage: str, number: int) -> None:
    if not math.isfinite(total):
        raise InputError(
            f"stages.{stage}.rate: the loss is {total} at step {number + 1}; "
            "expected a finite number (a lower rate helps)"
        )
