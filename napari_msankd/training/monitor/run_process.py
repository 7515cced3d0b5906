"""The process of a run: started apart from the viewer, found again, ended."""

import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import psutil

from src_training.errors import InputError
from src_training.runs.directory import RunDirectory
from src_training.runs.process import command, request_stop

STOP_TIMEOUT = 1.5
"""Seconds that a run is given to end by itself."""

_STARTED: list[subprocess.Popen[bytes]] = []
"""Python warns of a process that still runs when its object goes; a run is to go on."""


def start_process(folder: RunDirectory, arguments: Sequence[str]) -> psutil.Process:
    """Start ``msankd distil`` with these arguments; it outlives this process.

    What it prints goes to the run's ``output.log``.

    Raises
    ------
    InputError
        If the system refuses.
    """
    folder.path.mkdir(parents=True, exist_ok=True)
    program, *rest = command(arguments)
    detached: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        # A console of its own, not shown: what it starts in turn opens none.
        flags = subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP
        detached = {"creationflags": flags}
    try:
        with folder.output.open("ab") as output:
            process = subprocess.Popen(
                [program, *rest],
                # The directory the viewer was started in may hold modules of other names.
                cwd=folder.path,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                **detached,
            )
    except OSError as error:
        raise InputError(
            f"{folder.path}: the run could not be started ({error.strerror}); expected "
            f"{program} to run and the directory to be writable"
        ) from None
    _STARTED.append(process)
    return psutil.Process(process.pid)


def find_process(number: int, started: str) -> psutil.Process | None:
    """The process of a run by its id and its start (ISO 8601); None if it is gone.

    Another process may have its id by now.
    """
    try:
        process = psutil.Process(number)
        since = datetime.fromisoformat(started).timestamp()
        ours = process.create_time() <= since + 1 and "distil" in process.cmdline()
    except (psutil.Error, ValueError):
        return None
    return process if ours and is_alive(process) else None


def is_alive(process: psutil.Process) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def stop(process: psutil.Process, folder: RunDirectory) -> list[psutil.Process]:
    """Let a run stop after its step; returns it and all it started, for `kill`."""
    try:
        family = [process, *process.children(recursive=True)]
        request_stop(process, folder)
    except psutil.Error:
        return []
    return family


def kill(family: Sequence[psutil.Process]) -> None:
    """End processes at once."""
    for process in family:
        try:
            process.kill()
        except psutil.Error:
            continue
