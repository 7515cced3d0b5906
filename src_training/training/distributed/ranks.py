"""Several processes at one run: each takes its share of every batch, the first one writes."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import accumulate

import psutil
import torch
from lightning_fabric import Fabric
from lightning_fabric.utilities.rank_zero import rank_zero_only
from torch import Tensor, nn
from torch.distributed import is_torchelastic_launched

from src_training.data.sampling import Batch
from src_training.device import find_device, training_precision
from src_training.errors import InputError
from src_training.training.distributed.whole_batch import FULL, SyncMode

_FIRST = "MSANKD_FIRST_PROCESS"

STARTER = "MSANKD_STARTER"
"""Environment variable: the process that this one is to end with."""


def processes_of(devices: int) -> int:
    """How many processes a run has: those of `torchrun` where it started this one, else `devices`.

    Raises
    ------
    InputError
        If both say how many, and not the same.
    """
    if not is_torchelastic_launched():
        return devices
    started = int(os.environ["WORLD_SIZE"])
    if devices not in (1, started):
        raise InputError(
            f"--devices is {devices} and torchrun started {started} processes; "
            "expected no --devices beside torchrun"
        )
    return started


def make_fabric(device: str, devices: int) -> Fabric:
    """The device, precision and processes of a run.

    Parameters
    ----------
    device
        See `find_device`.
    devices
        GPUs to train on, one process each; on the CPU, processes; under
        `torchrun` those of all machines. Beyond one, `Fabric.launch` starts
        this program again for each of the others, unless `torchrun` did.

    Raises
    ------
    InputError
        If this machine has no such device, or fewer of them.
    """
    # Device and precision are said as events; its own words would break the bars.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    found = find_device(device)
    precision = training_precision(found)
    if devices == 1:
        chosen = [found.index] if found.index is not None else 1
        return Fabric(accelerator=found.type, devices=chosen, precision=precision)
    here = int(os.environ["LOCAL_WORLD_SIZE"]) if is_torchelastic_launched() else devices
    _refuse_unless_there(device, found.type, here)
    if is_first():
        os.environ[_FIRST] = str(os.getpid())
    return Fabric(
        accelerator=found.type,
        devices=here,
        num_nodes=devices // here,
        strategy="ddp",
        precision=precision,
    )


def spread_over(device: str, devices: int) -> list[str]:
    """Names of the devices of as many runs at once: a GPU each; on the CPU, a process.

    Raises
    ------
    InputError
        If this machine has no such device, or fewer of them.
    """
    if devices == 1:
        return [device]
    kind = find_device(device).type
    _refuse_unless_there(device, kind, devices)
    return [f"cuda:{index}" if kind == "cuda" else kind for index in range(devices)]


def _refuse_unless_there(device: str, kind: str, devices: int) -> None:
    most = {"cuda": torch.cuda.device_count(), "mps": 1}.get(kind, os.cpu_count() or 1)
    if not 1 <= devices <= most:
        raise InputError(f"devices is {devices}; expected 1 to {most} of {kind}")
    if ":" in device:
        raise InputError(f"device is {device} and devices is {devices}; expected {kind}")


def is_first() -> bool:
    """Whether this process is the first, or the only, one of its run."""
    return int(rank_zero_only.rank) == 0


def follow_first() -> None:
    """Leave signals to the first process, and end when it does; for every other one.

    Under `torchrun` it is the agent of this machine whose end is watched.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    _at_end_of(int(os.environ.get(_FIRST, os.getppid())), lambda: os._exit(1))


def follow_starter() -> None:
    """Stop as at a signal when `STARTER` is gone, where there is one: a killed one sends none."""
    if starter := os.environ.get(STARTER):
        _at_end_of(int(starter), lambda: os.kill(os.getpid(), signal.SIGTERM))


def _at_end_of(process: int, end: Callable[[], None]) -> None:
    def watch() -> None:
        while _lives(process):
            time.sleep(0.2)
        end()

    threading.Thread(target=watch, daemon=True).start()


def _lives(number: int) -> bool:
    try:
        return bool(psutil.Process(number).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


class Ranks:
    """What the processes of a run tell each other; with one process, nothing.

    All draw the same batch, and each takes the gradient of its own part of it:
    together those of the whole batch, see `src_training.training.distributed.whole_batch`.

    Parameters
    ----------
    fabric
        Launched.

    Attributes
    ----------
    rank
        Which process this is, from 0.
    count
        How many there are.
    """

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self.rank, self.count = int(fabric.global_rank), int(fabric.world_size)

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def share(self, batch: Batch) -> Batch:
        """The part of a batch that is this process's."""
        return parts_of(batch, self.count)[self.rank]

    def spread(self, batch: Batch) -> AbstractContextManager[object]:
        """Where the share of a batch is to be passed on as a part of it."""
        if self.count == 1:
            return nullcontext()
        places = Batch(torch.arange(len(batch.image)), torch.arange(len(batch.mask)))
        return SyncMode(self, self.share(places).image, len(batch.image))

    def tell(self, number: int) -> list[int]:
        """What each process tells, in their order."""
        told = torch.zeros(self.count, dtype=torch.int64)
        told[self.rank] = number
        return [int(each) for each in self.sum(told)]

    def any(self, wish: bool) -> bool:
        """Whether any of them says so; also to who waits in a layer or a loss of a `SyncMode`."""
        return wish if self.count == 1 else FULL in self.tell(FULL if wish else 0)

    def told(self, value: float) -> float:
        """What the first one says."""
        return float(self._fabric.broadcast(value))

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all of them; the values themselves may change."""
        if self.count == 1:
            return values
        total: Tensor = self._fabric.to_device(values)
        torch.distributed.all_reduce(total)
        return total

    def sum_gradients(self, parameters: list[nn.Parameter]) -> None:
        """Let every gradient be the sum over all of them."""
        if self.count == 1:
            return
        own = [parameter.grad for parameter in parameters if parameter.grad is not None]
        whole = self.sum(torch.cat([gradient.flatten() for gradient in own]))
        *ends, _ = accumulate(gradient.numel() for gradient in own)
        for gradient, summed in zip(own, whole.tensor_split(ends), strict=True):
            gradient.copy_(summed.view_as(gradient))

    def wait(self) -> None:
        """Wait for all of them."""
        self._fabric.barrier()


def parts_of(batch: Batch, count: int) -> list[Batch]:
    """A batch in parts of about equal size, each sample with its views.

    Labelled and unlabelled samples are spread alike: where at least half of a
    batch is labelled, no part of it is without masks.
    """
    if count == 1:
        return [batch]
    labelled = len(batch.mask)

    def spread(samples: Tensor) -> list[Tensor]:
        halves = samples[:labelled].tensor_split(count), samples[labelled:].tensor_split(count)
        return [torch.cat(pair) for pair in zip(*halves, strict=True)]

    images, masks = spread(batch.image), batch.mask.tensor_split(count)
    parts = [Batch(image, mask) for image, mask in zip(images, masks, strict=True)]
    if batch.unaugmented is not None:
        plain = spread(batch.unaugmented)
        parts = [replace(part, unaugmented=own) for part, own in zip(parts, plain, strict=True)]
    if batch.views is not None:
        grouped = spread(batch.views.reshape(len(batch.image), -1, *batch.views.shape[1:]))
        views = [own.flatten(0, 1) for own in grouped]
        parts = [replace(part, views=own) for part, own in zip(parts, views, strict=True)]
    return parts
