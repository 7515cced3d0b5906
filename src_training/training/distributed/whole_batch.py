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
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode, handle_torch_function, has_torch_function_unary

FULL = -1
"""What a process tells the others when its memory is full."""


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
    """The samples (B, ...) of all processes, of this one's; those alone, unless in a `SyncMode`.

    Their order is that of the processes, for all that has as many samples.
    Gradients are summed over processes.
    """
    if has_torch_function_unary(samples):
        gathered: Tensor = handle_torch_function(all_gather_samples, (samples,), samples)
        return gathered
    return samples


def rand_per_sample(samples: Tensor) -> Tensor:
    """A number in [0, 1) drawn for each sample: (B, ...) -> (B, 1, ...)."""
    if has_torch_function_unary(samples):
        drawn: Tensor = handle_torch_function(rand_per_sample, (samples,), samples)
        return drawn
    shape = len(samples), *[1] * (samples.ndim - 1)
    return torch.rand(shape, dtype=samples.dtype, device=samples.device)


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
            rand_per_sample: self._uniform,
            F.batch_norm: self._batch_norm,
            F.dropout2d: self._dropout2d,
        }

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return self._instead.get(func, func)(*args, **(kwargs or {}))

    def _whole(self, samples: Tensor) -> Tensor:
        return _gathered(samples, self._link, _meet(self._link, len(samples)))

    def _uniform(self, samples: Tensor) -> Tensor:
        return self._drawn(rand_per_sample, samples)

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
        parts = _gathered(own[None], self._link, [1] * self._link.count)
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


def _gathered(samples: Tensor, link: ProcessGroup, counts: list[int]) -> Tensor:
    """The samples of all processes, so many of each."""
    gathered: Tensor = _Gathered.apply(samples, link, counts)  # type: ignore[no-untyped-call]  # torch's own lack
    return gathered


class _Gathered(torch.autograd.Function):
    """Gathers as a sum, each process's samples among zeros: parts may differ in size.

    What has to be allocated is, before all meet.
    """

    @staticmethod
    def forward(ctx: Any, samples: Tensor, link: ProcessGroup, counts: list[int]) -> Tensor:
        first = sum(counts[: link.rank])
        ctx.link, ctx.own = link, slice(first, first + len(samples))
        gathered = samples.new_zeros(sum(counts), *samples.shape[1:])
        gathered[ctx.own] = samples
        _meet(link, 0)
        return link.sum(gathered)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        gradient = gradients[0].clone(memory_format=torch.contiguous_format)
        _meet(ctx.link, 0)
        return ctx.link.sum(gradient)[ctx.own], None, None
