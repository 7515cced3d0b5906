"""A batch that is spread over processes: layers and losses that are of all of it.

Each process passes its own samples on. Batch normalisation takes its mean and
variance from the samples of all, dropout and draws are those that one process
would make, and a loss that is no mean over samples is computed of what `all_gather_samples`
gathers. Its gradients are summed over processes, and the shares of the batch
by which they weight their losses add up to 1: losses and gradients are those
of one process with the batch to itself, whatever the loss.

Only what such a loss needs is sent, and all else is computed once: gathering
the passes of a network, so that no loss has to ask, would let every process
decode and judge the whole batch again.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode, handle_torch_function, has_torch_function_unary

from src_training.distillation.base import Distillation, ForwardOutputs, exact

FULL = -1
"""What a process tells the others when its memory is full."""


Places = Tensor | slice


class RemoteOutOfMemory(Exception):
    """The memory of another process is full in this step."""


class ProcessGroup(Protocol):
    """What a process says to the others and hears from them; all say as much.

    Attributes
    ----------
    rank
        Which process this is, from 0.
    count
        How many there are.
    """

    rank: int
    count: int

    def tell(self, number: int) -> list[int]:
        """What each process tells, in their order."""

    def sum(self, values: Tensor) -> Tensor:
        """The sum over processes; the values themselves may change."""


def all_gather_samples(samples: Tensor) -> Tensor:
    """The samples of all processes, of this one's (b, ...); those alone, unless in a `SyncMode`.

    The samples are all that a process has of the batch, or the labelled ones;
    they return in the order of the batch. Gradients are summed over processes.
    """
    if has_torch_function_unary(samples):
        gathered: Tensor = handle_torch_function(all_gather_samples, (samples,), samples)
        return gathered
    return samples


def gather_inputs(
    distillation: Distillation[Any], teacher: ForwardOutputs, student: ForwardOutputs, mask: Tensor
) -> tuple[ForwardOutputs, ForwardOutputs, Tensor]:
    """What a distillation is to be called with: its `whole_batch` fields gathered.

    Parameters
    ----------
    distillation
        Declares the fields, and the taps that it reads.
    teacher, student
        Outputs of this process's samples.
    mask
        Classes (M, H, W) of its labelled samples.

    Returns
    -------
    tuple
        Teacher, student and mask; unchanged if the distillation declares no
        field, or outside a `SyncMode`.
    """
    if not distillation.whole_batch:
        return teacher, student, mask

    def gather(outputs: ForwardOutputs) -> ForwardOutputs:
        read = {tap: outputs.taps[tap] for tap in distillation.taps}
        # In full precision, as the losses are computed.
        return replace(outputs, taps=read).map(
            lambda tensor: all_gather_samples(exact(tensor)), *distillation.whole_batch
        )

    return gather(teacher), gather(student), all_gather_samples(mask)


class SyncMode(TorchFunctionMode):
    """A context in which layers and losses know that their batch is a part.

    It takes the place of functions, not of layers: networks, and what is
    saved of them, stay as they are. `torch.nn.SyncBatchNorm` knows neither
    CPUs nor a process whose memory is full; here, all hear of that before
    they wait for one another.

    Parameters
    ----------
    link
        To the other processes; all generators are in the same state.
    own
        Places (b,) of this process's samples in the batch.
    batch
        Samples of the whole batch.
    """

    def __init__(self, link: ProcessGroup, own: Tensor, batch: int) -> None:
        super().__init__()
        self._link, self._own, self._batch = link, own, batch
        self._instead: dict[Any, Callable[..., Tensor]] = {
            all_gather_samples: self._whole,
            torch.rand_like: self._rand_like,
            F.batch_norm: self._batch_norm,
            F.dropout2d: self._dropout2d,
        }

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return self._instead.get(func, func)(*args, **(kwargs or {}))

    def _whole(self, samples: Tensor) -> Tensor:
        batch = sum(_meet(self._link, len(samples)))
        return _gathered(samples, self._link, self._places(samples), batch)

    def _places(self, samples: Tensor) -> Tensor:
        """Places in the batch of all samples of this process, or of the labelled ones."""
        return self._own[: len(samples)].to(samples.device)

    def _rand_like(self, samples: Tensor) -> Tensor:
        return self._drawn(torch.rand_like, samples)

    def _dropout2d(
        self, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> Tensor:
        if not training:
            return F.dropout2d(x, p, training, inplace)
        return x * self._drawn(lambda ones: F.dropout2d(ones, p), x[..., :1, :1])

    def _drawn(self, draw: Callable[[Tensor], Tensor], samples: Tensor) -> Tensor:
        """What is drawn for own samples, (b, ...) or with their K views behind them (b + b K, ...).

        In the whole batch, all views come after all samples.
        """
        views = len(samples) // len(self._own) - 1
        further = self._batch + self._own[:, None] * views + torch.arange(views)
        places = torch.cat([self._own, further.flatten()]).to(samples.device)
        all_of_them = self._batch * (1 + views), *samples.shape[1:]
        return draw(samples.new_ones(()).expand(all_of_them))[places]

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
        exact = x.to(torch.promote_types(x.dtype, torch.float32))
        over = [0, *range(2, x.ndim)]
        mean, variance, count = self._moments(exact, over)
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            unbiased = variance * (count / (count - 1))
            running_var.lerp_(unbiased.to(running_var.dtype), momentum)
        scale = weight * (variance + eps).rsqrt()
        shift = bias - mean * scale
        shape = [1 if axis in over else -1 for axis in range(x.ndim)]
        return torch.addcmul(shift.view(shape), exact, scale.view(shape)).to(x.dtype)

    def _moments(self, x: Tensor, over: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and variance of each channel over all processes, and of how many values."""
        variance, mean = torch.var_mean(x, over, correction=0)
        own = torch.stack([mean, variance, torch.full_like(mean, x.numel() // x.shape[1])])
        place = slice(self._link.rank, self._link.rank + 1)
        parts = _gathered(own[None], self._link, place, self._link.count)
        means, variances, counts = parts.unbind(1)
        shares = counts / counts.sum(0)
        mean = (shares * means).sum(0)
        variance = (shares * (variances + (means - mean).square())).sum(0)
        return mean, variance, counts.sum(0)


def _meet(link: ProcessGroup, number: int) -> list[int]:
    """What each process tells, unless the memory of one is full: that one waits for no other."""
    told = link.tell(number)
    if FULL in told:
        raise RemoteOutOfMemory
    return told


def _gathered(samples: Tensor, link: ProcessGroup, places: Places, batch: int) -> Tensor:
    """The samples of all processes, `batch` in number; those of this one belong in `places`."""
    gathered: Tensor = _Gathered.apply(samples, link, places, batch)  # type: ignore[no-untyped-call]  # torch's own lack
    return gathered


class _Gathered(torch.autograd.Function):
    """Gathers as a sum, each process's samples among zeros: parts may differ in size.

    What has to be allocated is, before all meet.
    """

    @staticmethod
    def forward(ctx: Any, samples: Tensor, link: ProcessGroup, own: Places, batch: int) -> Tensor:
        ctx.link, ctx.own = link, own
        gathered = samples.new_zeros(batch, *samples.shape[1:])
        gathered[own] = samples
        _meet(link, 0)
        return link.sum(gathered)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        gradient = gradients[0].clone(memory_format=torch.contiguous_format)
        _meet(ctx.link, 0)
        return ctx.link.sum(gradient)[ctx.own], None, None, None
