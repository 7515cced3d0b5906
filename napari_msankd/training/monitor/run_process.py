"""Start, find and end the process of a run, which is independent of the viewer."""

import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import psutil

from src_training.errors import InputError
from src_training.runs.directory import RunDirectory
from src_training.runs.process import request_stop, start_distil

STOP_TIMEOUT = 1.5
"""Seconds that a run has to stop before it is killed."""

_PROCESSES: list[subprocess.Popen[bytes]] = []
"""Popen objects of running processes; Python warns if one is deleted while its process runs."""


def start_process(folder: RunDirectory, arguments: Sequence[str]) -> psutil.Process:
    """Start ``msankd distil`` as a process that outlives this one.

    What it prints to standard error is written to the run's ``output.log``.

    Raises
    ------
    InputError
        If the process cannot be started.
    """
    folder.path.mkdir(parents=True, exist_ok=True)
    detached: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        # A hidden console, which child processes inherit, so that no window opens.
        flags = subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP
        detached = {"creationflags": flags}
    try:
        process = start_distil(arguments, folder, **detached)
    except OSError as error:
        raise InputError(
            f"{folder.path}: the run could not be started ({error.strerror}); expected "
            f"{sys.executable} to run and the directory to be writable"
        ) from None
    _PROCESSES.append(process)
    return psutil.Process(process.pid)


def find_process(number: int, started: str) -> psutil.Process | None:
    """The process of a run by its id and start time (ISO 8601); None if it has ended.

    The start time excludes another process that reuses the id.
    """
    try:
        process = psutil.Process(number)
        since = datetime.fromisoformat(started).timestamp()
        ours = process.create_time() <= since + 1 and "distil" in process.cmdline()
    except (psutil.Error, ValueError):
        return None
    return process if ours and is_alive(process) else None


def is_alive(process: psutil.Process) -> bool:
    """Whether a process is running; a zombie is not.

    A process started here counts as running until its exit code is taken, which leaves no
    zombie: one with threads can be a zombie before the last of them has ended.
    """
    _take_exit_codes()
    if any(each.pid == process.pid for each in _PROCESSES):
        return True
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def stop(process: psutil.Process, folder: RunDirectory) -> list[psutil.Process]:
    """Request a run to stop after its step; returns it and its child processes, for `kill`."""
    try:
        processes = [process, *process.children(recursive=True)]
        request_stop(process, folder)
    except psutil.Error:
        return []
    return processes


def kill(processes: Sequence[psutil.Process]) -> None:
    """Kill processes."""
    for process in processes:
        try:
            process.kill()
        except psutil.Error:
            continue
    _take_exit_codes()


def _take_exit_codes() -> None:
    """Take the exit codes of processes that ended, which are zombies until then."""
    _PROCESSES[:] = [each for each in _PROCESSES if each.poll() is None]
