"""A pool of processes that segment, each with one thread."""

import os
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import forkserver, get_all_start_methods, get_context, parent_process
from threading import Thread
from typing import Any

_MODULES = ["src_training.inference.predictor", "src_training.inference.volumes.segment"]
"""What all processes import, torch included."""

_task: Callable[..., Any] | None = None


def prepare_pool() -> None:
    """Import what the processes of a pool share, in the background where the system allows.

    Linux and macOS then fork each process from one that has imported torch. Elsewhere each
    imports it.
    """
    if "forkserver" in get_all_start_methods():
        forkserver.set_forkserver_preload(_MODULES)
        forkserver.ensure_running()


def process_pool(workers: int, task: Callable[..., Any]) -> ProcessPoolExecutor:
    """Create a pool whose processes run one task, to be submitted as `run_task`.

    Parameters
    ----------
    workers
        Number of processes.
    task
        The task, sent once to every process.
    """
    prepare_pool()
    method = "forkserver" if "forkserver" in get_all_start_methods() else "spawn"
    return ProcessPoolExecutor(workers, get_context(method), _initialise, (task,))


def run_task(*arguments: Any) -> Any:
    """Run the task of this process's pool."""
    assert _task is not None
    return _task(*arguments)


def _initialise(task: Callable[..., Any]) -> None:
    global _task
    import torch

    torch.set_num_threads(1)
    # The process that has the pool is interrupted, too, and ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()
    _task = task


def _end_with_parent() -> None:
    """End this process if the one that has the pool was killed."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
