"""Collective operations between the processes of a run, and each one's part of a batch."""

from dataclasses import replace
from itertools import accumulate

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from src_training.data.sampling import Batch, Mixed

OUT_OF_MEMORY = -1
"""The number that a process gathers when its memory is full."""


class ProcessGroup:
    """The processes of a run; with one process every operation returns its input.

    All processes draw the same batch, and each computes the gradient of its own
    part of it; the sums are those of the whole batch, see
    `src_training.training.distributed.sync_batch`.

    Parameters
    ----------
    fabric
        Launched.

    Attributes
    ----------
    rank
        Number of this process, from 0.
    world_size
        Number of processes.
    """

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self.rank, self.world_size = int(fabric.global_rank), int(fabric.world_size)

    @property
    def is_rank_zero(self) -> bool:
        """Whether this is the process that writes files."""
        return self.rank == 0

    def shard(self, batch: Batch) -> Batch:
        """The part of a batch that belongs to this process."""
        return split_batch(batch, self.world_size)[self.rank]

    def all_gather(self, number: int) -> list[int]:
        """The number of each process, in the order of the processes."""
        numbers = torch.zeros(self.world_size, dtype=torch.int64)
        numbers[self.rank] = number
        return [int(each) for each in self.all_reduce(numbers)]

    def any(self, flag: bool) -> bool:
        """Whether the flag is true in any process.

        Processes that wait in a layer or a loss of a `SyncMode` receive it as
        `RemoteOutOfMemory`.
        """
        if self.world_size == 1:
            return flag
        return OUT_OF_MEMORY in self.all_gather(OUT_OF_MEMORY if flag else 0)

    def broadcast(self, value: float) -> float:
        """The value of the first process."""
        return float(self._fabric.broadcast(value))

    def all_reduce(self, values: Tensor) -> Tensor:
        """The sum over all processes; `values` itself may change."""
        if self.world_size == 1:
            return values
        total: Tensor = self._fabric.to_device(values)
        torch.distributed.all_reduce(total)
        return total

    def all_reduce_gradients(self, parameters: list[nn.Parameter]) -> None:
        """Replace every gradient by its sum over all processes."""
        if self.world_size == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        total = self.all_reduce(torch.cat([gradient.flatten() for gradient in gradients]))
        *ends, _ = accumulate(gradient.numel() for gradient in gradients)
        for gradient, summed in zip(gradients, total.tensor_split(ends), strict=True):
            gradient.copy_(summed.view_as(gradient))

    def barrier(self) -> None:
        """Wait for all processes."""
        self._fabric.barrier()


def split_batch(batch: Batch, count: int) -> list[Batch]:
    """Split a batch into parts of about equal size, each sample with its views.

    Labelled and unlabelled samples are split alike: where at least half of the
    batch is labelled, every part has masks.
    """
    if count == 1:
        return [batch]
    labelled = len(batch.mask)

    def split(samples: Tensor) -> list[Tensor]:
        halves = samples[:labelled].tensor_split(count), samples[labelled:].tensor_split(count)
        return [torch.cat(pair) for pair in zip(*halves, strict=True)]

    images, masks = split(batch.image), batch.mask.tensor_split(count)
    parts = [Batch(image, mask) for image, mask in zip(images, masks, strict=True)]
    if batch.unaugmented is not None:
        unaugmented = split(batch.unaugmented)
        parts = [
            replace(part, unaugmented=own) for part, own in zip(parts, unaugmented, strict=True)
        ]
    if batch.mixed is not None:
        mixed = map(Mixed, *map(split, batch.mixed))
        parts = [replace(part, mixed=own) for part, own in zip(parts, mixed, strict=True)]
    if batch.views is not None:
        grouped = split(batch.views.reshape(len(batch.image), -1, *batch.views.shape[1:]))
        views = [own.flatten(0, 1) for own in grouped]
        parts = [replace(part, views=own) for part, own in zip(parts, views, strict=True)]
    return parts
