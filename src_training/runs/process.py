"""A run in its own process: command line, start, stop requests and output."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src_training.runs.directory import RunDirectory

if TYPE_CHECKING:
    import subprocess

    import psutil

    from src_training.config.recipe import Recipe


def command(arguments: Sequence[str]) -> list[str]:
    """Command of ``msankd distil`` with these arguments, by this interpreter, printing UTF-8."""
    return [sys.executable, "-X", "utf8", "-m", "src_training", "distil", *arguments]


def start_distil(
    arguments: Sequence[str], folder: RunDirectory, **options: Any
) -> "subprocess.Popen[bytes]":
    """Start ``msankd distil`` as a process whose standard error is added to the run's log.

    Its progress is in the events of the run; only what went wrong is kept of what it prints.

    Parameters
    ----------
    arguments
        Arguments of ``msankd distil``.
    folder
        Directory of the run, which exists.
    options
        Further options of `subprocess.Popen`.

    Raises
    ------
    OSError
        If the process cannot be started, or its log cannot be written.
    """
    import subprocess

    with folder.output.open("ab") as output:
        return subprocess.Popen(
            command(arguments),
            # Modules in the current directory could shadow those of the package.
            cwd=folder.path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=output,
            **options,
        )


def to_begin(recipe: "Recipe", folder: RunDirectory) -> list[str]:
    """Save the recipe of a new run, and return the arguments of ``msankd distil`` for it.

    Parameters
    ----------
    recipe
        Recipe of the run, with absolute folders.
    folder
        Directory of the run; created if missing.
    """
    folder.path.mkdir(parents=True, exist_ok=True)
    recipe.save(folder.asked)
    return [str(folder.asked.absolute()), "--out", str(folder.path.absolute())]


def to_resume(folder: RunDirectory) -> list[str]:
    """Return the arguments of ``msankd distil`` that resume a run."""
    return ["--resume", str(folder.path.absolute())]


def request_stop(process: "psutil.Process | subprocess.Popen[bytes]", folder: RunDirectory) -> None:
    """Ask the process of a run to save its steps and end.

    This sends SIGTERM, except on Windows, where it creates a file that the process polls:
    ``terminate`` would end the process there at once, and its unsaved steps would be lost.
    """
    if sys.platform == "win32":
        _stop_file(folder).touch()
    else:
        process.terminate()


def stop_request(folder: RunDirectory) -> Callable[[], bool]:
    """Return a function that tells whether a stop was requested by a file since this call."""
    file = _stop_file(folder)
    file.unlink(missing_ok=True)
    return file.exists


def _stop_file(folder: RunDirectory) -> Path:
    return folder.path / ".stop"


def last_line(printed: bytes) -> str:
    r"""Return the last line that is not blank; empty if there is none.

    Examples
    --------
    >>> last_line(b"epoch 1\nout of memory\n\n")
    'out of memory'
    """
    lines = printed.decode(errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


class Output:
    """The output that a process appends to a file from now on.

    Parameters
    ----------
    path
        The file; need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._start = path.stat().st_size if path.exists() else 0

    def last_line(self) -> str:
        """Return the last line that is not blank; empty if there is none."""
        printed = self._path.read_bytes()[self._start :] if self._path.exists() else b""
        return last_line(printed)
