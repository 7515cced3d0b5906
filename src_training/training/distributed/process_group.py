"""Collective operations of the processes of a run, and splitting of batches."""

from dataclasses import replace
from itertools import accumulate

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from src_training.data.sampling import Batch, Mixed

OUT_OF_MEMORY = -1
"""The value that a process contributes to `all_gather` when its memory is full."""


class ProcessGroup:
    """The processes of a run; with one process every operation returns its input.

    All processes draw the same batch, and each computes the gradient of its shard.
    The sum of these gradients is the gradient of the whole batch; see
    `src_training.training.distributed.sync_batch`.

    Parameters
    ----------
    fabric
        Launched Fabric.

    Attributes
    ----------
    rank
        Rank of this process.
    world_size
        Number of processes.
    """

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self.rank, self.world_size = int(fabric.global_rank), int(fabric.world_size)

    @property
    def is_rank_zero(self) -> bool:
        """Whether this process has rank 0; only that one writes files."""
        return self.rank == 0

    def shard(self, batch: Batch) -> Batch:
        """Return the shard of a batch for this process."""
        return split_batch(batch, self.world_size)[self.rank]

    def all_gather(self, number: int) -> list[int]:
        """Return the numbers of all processes, by rank."""
        numbers = torch.zeros(self.world_size, dtype=torch.int64)
        numbers[self.rank] = number
        return [int(each) for each in self.all_reduce(numbers)]

    def any(self, flag: bool) -> bool:
        """Return whether the flag is true in any process.

        A true flag raises `RemoteOutOfMemory` in processes that wait in a layer or a loss of
        a `SyncMode`.
        """
        if self.world_size == 1:
            return flag
        return OUT_OF_MEMORY in self.all_gather(OUT_OF_MEMORY if flag else 0)

    def broadcast(self, value: float) -> float:
        """Return the value of rank 0."""
        return float(self._fabric.broadcast(value))

    def all_reduce(self, values: Tensor) -> Tensor:
        """Return the sum over all processes; may change `values` in place."""
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
    """Split a batch into parts of about equal size, keeping the views of each sample together.

    Labelled and unlabelled samples are split separately, so that every part has labelled
    samples if at least half of the batch is labelled.
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
        parts = [replace(part, unaugmented=u) for part, u in zip(parts, unaugmented, strict=True)]
    if batch.mixed is not None:
        mixed = map(Mixed, *map(split, batch.mixed))
        parts = [replace(part, mixed=m) for part, m in zip(parts, mixed, strict=True)]
    if batch.views is not None:
        views = split(batch.views.reshape(len(batch.image), -1, *batch.views.shape[1:]))
        parts = [replace(part, views=v.flatten(0, 1)) for part, v in zip(parts, views, strict=True)]
    return parts
