"""Devices and processes of a run: how many there are, how they start, and how they end."""

import logging
import os
import signal
import threading
import time
from _thread import interrupt_main
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil
import torch
from lightning_fabric import Fabric
from lightning_fabric.utilities.rank_zero import rank_zero_only
from torch.distributed import is_torchelastic_launched

from src_training.device import find_device, training_precision
from src_training.errors import InputError

_RANK_ZERO_PID = "MSANKD_RANK_ZERO_PID"

PARENT_PID = "MSANKD_PARENT_PID"
"""Environment variable: the process that this one is to end with."""


def process_count(devices: int) -> int:
    """Number of processes of a run: what `torchrun` started, else `devices`.

    Raises
    ------
    InputError
        If `torchrun` started another number than `devices`, and `devices` is not 1.
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
    # Device and precision are reported as events; Lightning's own lines would break the bars.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    torch_device = find_device(device)
    precision = training_precision(torch_device)
    if devices == 1:
        index = [torch_device.index] if torch_device.index is not None else 1
        return Fabric(accelerator=torch_device.type, devices=index, precision=precision)
    here = int(os.environ["LOCAL_WORLD_SIZE"]) if is_torchelastic_launched() else devices
    _check_devices(device, torch_device.type, here)
    if is_rank_zero():
        os.environ[_RANK_ZERO_PID] = str(os.getpid())
    return Fabric(
        accelerator=torch_device.type,
        devices=here,
        num_nodes=devices // here,
        strategy="ddp",
        precision=precision,
    )


def device_names(device: str, count: int) -> list[str]:
    """Names of the devices of as many runs at once: a GPU each, or a process of the CPU.

    Raises
    ------
    InputError
        If this machine has no such device, or fewer of them.
    """
    if count == 1:
        return [device]
    kind = find_device(device).type
    _check_devices(device, kind, count)
    return [f"cuda:{index}" if kind == "cuda" else kind for index in range(count)]


def _check_devices(device: str, kind: str, count: int) -> None:
    available = {"cuda": torch.cuda.device_count(), "mps": 1}.get(kind, os.cpu_count() or 1)
    if not 1 <= count <= available:
        raise InputError(f"devices is {count}; expected 1 to {available} of {kind}")
    if ":" in device:
        raise InputError(f"device is {device} and devices is {count}; expected {kind}")


def is_rank_zero() -> bool:
    """Whether this process is the first, or the only, one of its run."""
    return int(rank_zero_only.rank) == 0


def follow_rank_zero() -> None:
    """Ignore signals, and end when the first process ends; for every other process of a run.

    Under `torchrun` it is the agent of this machine whose end is awaited.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    ended = _end_of(int(os.environ.get(_RANK_ZERO_PID, os.getppid())))
    _when(ended, lambda: os._exit(1))


def parent_ended() -> Callable[[], bool]:
    """Whether the process of `PARENT_PID` is gone, as a function: a killed one sends no signal."""
    pid = os.environ.get(PARENT_PID)
    return _end_of(int(pid)) if pid else lambda: False


@contextmanager
def stop_when(condition: Callable[[], bool]) -> Iterator[None]:
    """Stop the block as at a signal once a condition is true; it is asked several times a second.

    The handler of SIGTERM is called in the main thread. Sending the signal would end the process
    at once on Windows.
    """
    ended = threading.Event()

    def stop() -> None:
        if not ended.is_set():
            interrupt_main(signal.SIGTERM)

    _when(lambda: ended.is_set() or condition(), stop)
    try:
        yield
    finally:
        ended.set()


def _end_of(pid: int) -> Callable[[], bool]:
    """Whether a process has ended, as a function; another that has its id later is not it."""
    try:
        process = psutil.Process(pid)
    except psutil.NoSuchProcess:
        return lambda: True
    return lambda: not _is_alive(process)


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _when(condition: Callable[[], bool], act: Callable[[], object]) -> None:
    def wait() -> None:
        while not condition():
            time.sleep(0.2)
        act()

    threading.Thread(target=wait, daemon=True).start()
