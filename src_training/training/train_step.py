"""One optimisation step of a stage, with gradient accumulation where memory is full."""

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
    """Losses of an optimisation step.

    Attributes
    ----------
    stage
        Name of the stage.
    step
        Number of steps done, including this one.
    total
        Weighted sum of the losses, finite.
    losses
        Loss name -> unweighted loss of the whole batch.
    """

    stage: str
    step: int
    total: float
    losses: Mapping[str, float]


class TrainStep:
    """Takes the optimisation steps of a stage; a step that fails changes nothing.

    Parameters
    ----------
    stage
        Stage to train; moved to the device.
    schedule
        Batch size and learning rate.
    sampler
        Source of training batches.
    fabric, group
        Device and precision, and the processes.
    seed, weight_decay
        See `Recipe`.
    callbacks
        Called when a batch is split.

    Attributes
    ----------
    optimiser
        AdamW over the parameter groups of the stage.
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
        """Take one step.

        Parameters
        ----------
        number
            Number of steps done before this one.

        Raises
        ------
        InputError
            If the loss is not finite, or memory is full with a single labelled patch.
        Interrupted
            From a hook of `interruptible`; weights and running statistics are as before the step.
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
        """Compute gradients, and return the losses with their total; None if memory was full."""
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
        summed = dict(zip(losses, values, strict=True))
        _check_finite(summed["total"], self._stage.name, number)
        return summed

    def _accumulate(self, number: int) -> dict[str, Tensor]:
        """Add up losses and gradients over the parts of this process's share."""
        torch.manual_seed(step_seed(self._seed, self._seed_key, number))
        self._scaled_optimiser.zero_grad()
        stage, device = self._stage, self._fabric.device
        batch = stage.prepare(self._sampler.sample(self._schedule.batch, stage.views, device))
        self._labelled = len(batch.mask)
        sums: dict[str, Tensor] = {}
        parts = split_batch(self._group.shard(batch), self._accumulation_steps)
        # Processes may have different numbers of parts, and collective operations inside the
        # parts would then deadlock.
        accumulates = self._accumulation_steps > 1
        with nullcontext() if accumulates else sync_batch(self._group, batch):
            for part in (part for part in parts if len(part.image)):
                for name, loss in self._backward(part).items():
                    sums[name] = sums[name] + loss if name in sums else loss
        return sums

    def _backward(self, part: Batch) -> dict[str, Tensor]:
        """Add the gradients of a part; return its losses, weighted by its share of the batch."""
        with self._fabric.autocast():
            losses = self._stage(part)
        losses = {name: exact(loss) for name, loss in losses.items()}
        share = len(part.image) / self._schedule.batch
        total = self._stage.total(losses)
        self._fabric.backward(total * share)
        return {name: loss.detach() * share for name, loss in {"total": total, **losses}.items()}

    def _split(self, number: int) -> None:
        """Double the number of parts that a batch is split into, for the remaining steps."""
        stage, batch = self._stage.name, self._schedule.batch
        # The failed forward pass has updated the running statistics.
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
    """A copy of a module's running statistics, which every forward pass changes."""

    def __init__(self, module: nn.Module) -> None:
        # Grouped by dtype, so that a GPU copies each group with one kernel.
        groups: dict[torch.dtype, list[Tensor]] = {}
        for buffer in module.buffers():
            groups.setdefault(buffer.dtype, []).append(buffer)
        self._buffers = list(groups.values())
        self._copies = [[buffer.clone() for buffer in group] for group in self._buffers]

    def save(self) -> None:
        for copies, buffers in zip(self._copies, self._buffers, strict=True):
            torch._foreach_copy_(copies, buffers)

    def restore(self) -> None:
        for copies, buffers in zip(self._copies, self._buffers, strict=True):
            torch._foreach_copy_(buffers, copies)


def _check_finite(total: float, stage: str, number: int) -> None:
    if not math.isfinite(total):
        raise InputError(
            f"stages.{stage}.rate: the loss is {total} at step {number + 1}; "
            "expected a finite number (a lower rate helps)"
        )
