"""Starting and ending the processes of a run, and choosing their devices."""

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

from src_training.device import find_device, keep_freed_memory, training_precision
from src_training.errors import InputError

_RANK_ZERO_PID = "MSANKD_RANK_ZERO_PID"

PARENT_PID = "MSANKD_PARENT_PID"
"""Environment variable: id of a process; this process stops when that one ends."""


def process_count(devices: int) -> int:
    """Return the number of processes of a run: that of `torchrun`, or `devices` without it.

    Raises
    ------
    InputError
        If `torchrun` started a different number than `devices`, and `devices` is not 1.
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
    """Create the Fabric of a run: device, precision and processes.

    Parameters
    ----------
    device
        See `find_device`.
    devices
        Number of GPUs with one process each, or of processes on the CPU; under
        `torchrun` that of all machines. With more than one, `Fabric.launch` starts
        this program once for each further process, unless `torchrun` did.

    Raises
    ------
    InputError
        If this machine has no such device, or not enough of them.
    """
    # Device and precision are reported as events; Lightning's log lines would break the bars.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    keep_freed_memory()
    torch_device = find_device(device)
    precision = training_precision(torch_device)
    if devices == 1:
        index = [torch_device.index] if torch_device.index is not None else 1
        return Fabric(accelerator=torch_device.type, devices=index, precision=precision)
    local = int(os.environ["LOCAL_WORLD_SIZE"]) if is_torchelastic_launched() else devices
    _check_devices(device, torch_device.type, local)
    if is_rank_zero():
        os.environ[_RANK_ZERO_PID] = str(os.getpid())
    return Fabric(
        accelerator=torch_device.type,
        devices=local,
        num_nodes=devices // local,
        strategy="ddp",
        precision=precision,
    )


def device_names(device: str, count: int) -> list[str]:
    """Return a device name for each of `count` parallel runs: a GPU each, or the CPU for all.

    Raises
    ------
    InputError
        If this machine has no such device, or not enough of them.
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
    """Whether this process has rank 0 in its run."""
    return int(rank_zero_only.rank) == 0


def follow_rank_zero() -> None:
    """Ignore signals, and exit when rank 0 ends; called in the processes of other ranks.

    Under `torchrun`, the process exits when the agent of its machine ends.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    ended = _end_check(int(os.environ.get(_RANK_ZERO_PID, os.getppid())))
    _call_when(ended, lambda: os._exit(1))


def parent_ended() -> Callable[[], bool]:
    """Return a function that tells whether the process of `PARENT_PID` has ended.

    It has to be polled, because a killed process sends no signal.
    """
    pid = os.environ.get(PARENT_PID)
    return _end_check(int(pid)) if pid else lambda: False


@contextmanager
def stop_when(condition: Callable[[], bool]) -> Iterator[None]:
    """Interrupt the block as SIGTERM would once a condition is true; polled five times a second.

    The handler of SIGTERM is called in the main thread. The signal itself is not sent, because
    on Windows it would end the process at once.
    """
    ended = threading.Event()

    def stop() -> None:
        if not ended.is_set():
            interrupt_main(signal.SIGTERM)

    _call_when(lambda: ended.is_set() or condition(), stop)
    try:
        yield
    finally:
        ended.set()


def _end_check(pid: int) -> Callable[[], bool]:
    """Return a function that tells whether a process has ended, even if its id is reused."""
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


def _call_when(condition: Callable[[], bool], callback: Callable[[], object]) -> None:
    """Call a function in a thread once a condition is true."""

    def wait() -> None:
        while not condition():
            time.sleep(0.2)
        callback()

    threading.Thread(target=wait, daemon=True).start()
