"""The process of a run: begun apart from the viewer, found again, ended."""

from collections.abc import Sequence
from datetime import datetime

import psutil
from qtpy.QtCore import QProcess

from src_training.errors import InputError
from src_training.runs.directory import RunDirectory
from src_training.runs.process import command

GRACE = 1.5
"""Seconds that a run is given to end by itself."""


def begin(folder: RunDirectory, arguments: Sequence[str]) -> psutil.Process:
    """Start ``msankd distil`` with these arguments; it outlives this process.

    What it prints goes to the run's ``output.log``.

    Raises
    ------
    InputError
        If the system refuses.
    """
    folder.path.mkdir(parents=True, exist_ok=True)
    program, *rest = command(arguments)
    starter = QProcess()
    starter.setProgram(program)
    starter.setArguments(rest)
    # The directory the viewer was started in may hold modules of other names.
    starter.setWorkingDirectory(str(folder.path))
    starter.setStandardOutputFile(str(folder.output), QProcess.OpenModeFlag.Append)
    starter.setProcessChannelMode(QProcess.ProcessChannelMode.MergedChannels)
    begun, number = starter.startDetached()
    if not begun:
        raise InputError(
            f"{folder.path}: the run could not be started ({starter.errorString()}); expected "
            f"{program} to run and the directory to be writable"
        )
    return psutil.Process(number)


def find(number: int, started: str) -> psutil.Process | None:
    """The process of a run that said at `started` (ISO 8601) that it is `number`.

    None if it is gone; another process may bear its number by now.
    """
    try:
        process = psutil.Process(number)
        since = datetime.fromisoformat(started).timestamp()
        ours = process.create_time() <= since + 1 and "distil" in process.cmdline()
    except (psutil.Error, ValueError):
        return None
    return process if ours and is_alive(process) else None


def is_alive(process: psutil.Process) -> bool:
    """Whether a process runs; one that ended and was not buried does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def ask_to_end(process: psutil.Process) -> list[psutil.Process]:
    """Let a run stop after its step; returns it and all it started, for `kill`."""
    try:
        family = [process, *process.children(recursive=True)]
        process.terminate()
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
