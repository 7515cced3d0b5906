"""Exact training steps of a batch that is split over several processes.

Each process computes the forward pass of its own samples. Within a `SyncMode`,
batch normalisation takes mean and variance over the samples of all processes,
dropout and `torch.rand_like` draw the same numbers as a single process would, and
`all_gather_samples` collects the inputs of losses that are no means over samples.
Every process weights its losses by its share of the batch, and gradients are summed.
Losses and gradients therefore equal those of a single process with the whole batch.

Only the inputs of such losses are gathered. Networks, losses and distillations contain no
distributed code: a distillation names the fields that it needs of the whole
batch (`Distillation.whole_batch`), and the training stage gathers them.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode, handle_torch_function, has_torch_function_unary

from src_training.data.sampling import Batch
from src_training.distillation.base import Distillation, ForwardOutputs, exact
from src_training.training.distributed.process_group import OUT_OF_MEMORY, ProcessGroup

Places = Tensor | slice


class RemoteOutOfMemory(Exception):
    """Raised when another process has run out of memory in this step."""


def all_gather_samples(samples: Tensor) -> Tensor:
    """Gather the samples of the whole batch from all processes.

    Parameters
    ----------
    samples
        (b, ...): all samples of this process, or its labelled ones.

    Returns
    -------
    Tensor
        (B, ...), in the order of the batch; `samples` itself outside a
        `SyncMode`. Gradients are summed over processes.
    """
    if has_torch_function_unary(samples):
        gathered: Tensor = handle_torch_function(all_gather_samples, (samples,), samples)
        return gathered
    return samples


def gather_inputs(
    distillation: Distillation[Any], teacher: ForwardOutputs, student: ForwardOutputs, mask: Tensor
) -> tuple[ForwardOutputs, ForwardOutputs, Tensor]:
    """Gather the inputs that a distillation needs of the whole batch.

    Parameters
    ----------
    distillation
        Distillation, whose `whole_batch` and `taps` name the fields to gather.
    teacher, student
        Outputs for the samples of this process.
    mask
        Classes (M, H, W) of its labelled samples.

    Returns
    -------
    tuple
        Teacher, student and mask; unchanged where the distillation names no
        field, or outside a `SyncMode`.
    """
    if not distillation.whole_batch:
        return teacher, student, mask

    def gather(outputs: ForwardOutputs) -> ForwardOutputs:
        taps = {name: outputs.taps[name] for name in distillation.taps}
        # Losses are computed in full precision.
        return replace(outputs, taps=taps).map(
            lambda tensor: all_gather_samples(exact(tensor)), *distillation.whole_batch
        )

    return gather(teacher), gather(student), all_gather_samples(mask)


def sync_batch(group: ProcessGroup, batch: Batch) -> AbstractContextManager[object]:
    """Return a context that trains on `group.shard(batch)` as a shard of `batch`."""
    if group.world_size == 1:
        return nullcontext()
    places = Batch(torch.arange(len(batch.image)), torch.arange(len(batch.mask)))
    return SyncMode(group, group.shard(places).image, len(batch.image))


class SyncMode(TorchFunctionMode):
    """A context in which layers and losses compute as on the whole batch.

    It replaces functions of PyTorch, not layers, so that networks and their saved
    weights do not change. `torch.nn.SyncBatchNorm` supports no CPUs, and deadlocks if a process
    runs out of memory; here every process learns of that before it waits for the others.

    Parameters
    ----------
    group
        Process group; the random generators of all processes are in the same state.
    own
        Indices (b,) of this process's samples in the batch; labelled samples
        come first, in both.
    batch
        Number of samples of the whole batch.
    """

    def __init__(self, group: ProcessGroup, own: Tensor, batch: int) -> None:
        super().__init__()
        self._group, self._own, self._batch = group, own, batch
        self._replacements: dict[Any, Callable[..., Tensor]] = {
            all_gather_samples: self._all_gather_samples,
            torch.rand_like: self._rand_like,
            F.batch_norm: self._batch_norm,
            F.dropout2d: self._dropout2d,
        }

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return self._replacements.get(func, func)(*args, **(kwargs or {}))

    def _all_gather_samples(self, samples: Tensor) -> Tensor:
        batch = sum(_all_gather(self._group, len(samples)))
        own = self._own[: len(samples)].to(samples.device)
        return _gather(samples, self._group, own, batch)

    def _rand_like(self, samples: Tensor) -> Tensor:
        return self._draw(torch.rand_like, samples)

    def _dropout2d(
        self, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> Tensor:
        if not training:
            return F.dropout2d(x, p, training, inplace)
        return x * self._draw(lambda ones: F.dropout2d(ones, p), x[..., :1, :1])

    def _draw(self, draw: Callable[[Tensor], Tensor], samples: Tensor) -> Tensor:
        """Draw for the whole batch, and return the values of this process's samples.

        The samples are (b, ...), or followed by their K views (b + b K, ...).
        In the whole batch, all views come after all samples.
        """
        views = len(samples) // len(self._own) - 1
        view_indices = self._batch + self._own[:, None] * views + torch.arange(views)
        indices = torch.cat([self._own, view_indices.flatten()]).to(samples.device)
        shape = self._batch * (1 + views), *samples.shape[1:]
        return draw(samples.new_ones(()).expand(shape))[indices]

    def _batch_norm(
        self,
        x: Tensor,
        running_mean: Tensor,
        running_var: Tensor,
        weight: Tensor,
        bias: Tensor,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        """Like `torch.nn.functional.batch_norm`, with statistics over all processes."""
        if not training:
            return F.batch_norm(x, running_mean, running_var, weight, bias, eps=eps)
        full = exact(x)
        axes = [0, *range(2, x.ndim)]
        mean, variance, count = self._moments(full, axes)
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            unbiased = variance * (count / (count - 1))
            running_var.lerp_(unbiased.to(running_var.dtype), momentum)
        scale = weight * (variance + eps).rsqrt()
        shift = bias - mean * scale
        shape = [1 if axis in axes else -1 for axis in range(x.ndim)]
        return torch.addcmul(shift.view(shape), full, scale.view(shape)).to(x.dtype)

    def _moments(self, x: Tensor, axes: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Mean, variance and number of values of each channel over all processes."""
        variance, mean = torch.var_mean(x, axes, correction=0)
        local = torch.stack([mean, variance, torch.full_like(mean, x.numel() // x.shape[1])])
        index = slice(self._group.rank, self._group.rank + 1)
        moments = _gather(local[None], self._group, index, self._group.world_size)
        means, variances, counts = moments.unbind(1)
        shares = counts / counts.sum(0)
        mean = (shares * means).sum(0)
        variance = (shares * (variances + (means - mean).square())).sum(0)
        return mean, variance, counts.sum(0)


def _all_gather(group: ProcessGroup, number: int) -> list[int]:
    """Gather a number of each process; raise RemoteOutOfMemory if the memory of one is full."""
    numbers = group.all_gather(number)
    if OUT_OF_MEMORY in numbers:
        raise RemoteOutOfMemory
    return numbers


def _gather(samples: Tensor, group: ProcessGroup, own: Places, batch: int) -> Tensor:
    """Gather the `batch` samples of all processes; those of this one have the indices `own`."""
    gathered: Tensor = _Gather.apply(samples, group, own, batch)  # type: ignore[no-untyped-call]  # untyped in torch
    return gathered


class _Gather(torch.autograd.Function):
    """Gathers by a sum, in which each process has zeros at the indices of the others.

    Processes may have different numbers of samples. Each allocates memory before it waits for the
    others, so that one whose memory is full can still report it.
    """

    @staticmethod
    def forward(ctx: Any, samples: Tensor, group: ProcessGroup, own: Places, batch: int) -> Tensor:
        ctx.group, ctx.own = group, own
        gathered = samples.new_zeros(batch, *samples.shape[1:])
        gathered[own] = samples
        _all_gather(group, 0)
        return group.all_reduce(gathered)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        gradient = gradients[0].clone(memory_format=torch.contiguous_format)
        _all_gather(ctx.group, 0)
        return ctx.group.all_reduce(gradient)[ctx.own], None, None, None
