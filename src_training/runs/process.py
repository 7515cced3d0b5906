"""A run in a process of its own: how it is begun, and what it prints."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from src_training.runs.directory import RunDirectory

if TYPE_CHECKING:
    import subprocess

    import psutil

    from src_training.config.recipe import Recipe


def command(arguments: Sequence[str]) -> list[str]:
    """``msankd distil`` with these arguments, by this interpreter; what it prints is UTF-8."""
    return [sys.executable, "-X", "utf8", "-m", "src_training", "distil", *arguments]


def to_begin(recipe: "Recipe", folder: RunDirectory) -> list[str]:
    """Arguments that begin a new run; its directory is made if missing.

    Parameters
    ----------
    recipe
        What to do; its folders absolute.
    folder
        Directory of the run.
    """
    folder.path.mkdir(parents=True, exist_ok=True)
    recipe.save(folder.asked)
    return [str(folder.asked.absolute()), "--out", str(folder.path.absolute())]


def to_resume(folder: RunDirectory) -> list[str]:
    """Arguments that go on with a run."""
    return ["--resume", str(folder.path.absolute())]


def request_stop(process: "psutil.Process | subprocess.Popen[bytes]", folder: RunDirectory) -> None:
    """Ask the process of a run to save its steps and end: by a signal, on Windows by a file.

    On Windows ``terminate`` would end it at once, and its steps would be lost.
    """
    if sys.platform == "win32":
        _stop_file(folder).touch()
    else:
        process.terminate()


def stop_request(folder: RunDirectory) -> Callable[[], bool]:
    """Whether a stop was requested by a file from now on, as a function."""
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
    """What is printed to a file from now on.

    Parameters
    ----------
    path
        The file; need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._from = path.stat().st_size if path.exists() else 0

    def last_line(self) -> str:
        """The last line since then; empty if there is none."""
        printed = self._path.read_bytes()[self._from :] if self._path.exists() else b""
        return last_line(printed)
