"""Exact training steps of a batch that is split over several processes.

Each process computes the forward pass of its own samples. Within a `SyncMode`,
batch normalisation takes mean and variance over the samples of all processes,
dropout and `torch.rand_like` draw what one process would draw, and
`all_gather_samples` collects the inputs of losses that are no means over samples.
Every process weights its losses by its share of the batch, the shares add up to
1, and gradients are summed: losses and gradients are those of one process that
has the whole batch.

Only what such a loss reads is gathered. Networks, losses and distillations do not
know of other processes: a distillation names the fields it needs of the whole
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
    """The memory of another process is full in this step."""


def all_gather_samples(samples: Tensor) -> Tensor:
    """The samples of the whole batch, from those of this process.

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
    """Inputs of a distillation, with the fields that it needs of the whole batch gathered.

    Parameters
    ----------
    distillation
        Names the fields in `whole_batch`, and the taps that it reads.
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
        # In full precision, as the losses are computed.
        return replace(outputs, taps=taps).map(
            lambda tensor: all_gather_samples(exact(tensor)), *distillation.whole_batch
        )

    return gather(teacher), gather(student), all_gather_samples(mask)


def sync_batch(group: ProcessGroup, batch: Batch) -> AbstractContextManager[object]:
    """Context in which `group.shard(batch)` is trained on as a part of `batch`."""
    if group.world_size == 1:
        return nullcontext()
    places = Batch(torch.arange(len(batch.image)), torch.arange(len(batch.mask)))
    return SyncMode(group, group.shard(places).image, len(batch.image))


class SyncMode(TorchFunctionMode):
    """A context in which layers and losses compute as on the whole batch.

    It replaces functions of PyTorch, not layers: networks and their saved
    weights stay as they are. `torch.nn.SyncBatchNorm` supports neither CPUs nor
    a process that runs out of memory; here all processes hear of that before
    they wait for one another.

    Parameters
    ----------
    group
        The processes; the random generators of all are in the same state.
    own
        Places (b,) of this process's samples in the batch; labelled samples
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
        """Draw for the whole batch, and take the numbers of this process's samples.

        The samples are (b, ...), or followed by their K views (b + b K, ...).
        In the whole batch, all views come after all samples.
        """
        views = len(samples) // len(self._own) - 1
        further = self._batch + self._own[:, None] * views + torch.arange(views)
        places = torch.cat([self._own, further.flatten()]).to(samples.device)
        whole = self._batch * (1 + views), *samples.shape[1:]
        return draw(samples.new_ones(()).expand(whole))[places]

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
        """As `torch.nn.functional.batch_norm`, with the values of all processes."""
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
        own = torch.stack([mean, variance, torch.full_like(mean, x.numel() // x.shape[1])])
        place = slice(self._group.rank, self._group.rank + 1)
        parts = _gather(own[None], self._group, place, self._group.world_size)
        means, variances, counts = parts.unbind(1)
        shares = counts / counts.sum(0)
        mean = (shares * means).sum(0)
        variance = (shares * (variances + (means - mean).square())).sum(0)
        return mean, variance, counts.sum(0)


def _all_gather(group: ProcessGroup, number: int) -> list[int]:
    """The number of each process; RemoteOutOfMemory if the memory of one is full."""
    numbers = group.all_gather(number)
    if OUT_OF_MEMORY in numbers:
        raise RemoteOutOfMemory
    return numbers


def _gather(samples: Tensor, group: ProcessGroup, own: Places, batch: int) -> Tensor:
    """The `batch` samples of all processes; those of this one belong in the places `own`."""
    gathered: Tensor = _Gather.apply(samples, group, own, batch)  # type: ignore[no-untyped-call]  # torch's own lack
    return gathered


class _Gather(torch.autograd.Function):
    """Gathers by a sum in which each process has zeros in the places of the others.

    Parts may differ in size. Memory is allocated before the processes wait for
    one another: the one whose memory is full can still say so.
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
