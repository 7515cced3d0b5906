"""Atomic writing: readers see the old or the new file, never a partial one."""

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

_REMOVALS = 5
"""Maximum number of attempts to remove a folder."""

_ATTEMPTS, _PAUSE = 40, 0.05
"""Maximum number of attempts to replace a file on Windows, and seconds between them."""


def write_atomic(path: Path, write: Callable[[Path], None]) -> None:
    """Write a temporary file in the same folder, fsync it, and rename it to its final name.

    Parameters
    ----------
    path
        File to create or replace. Its folder is created if missing.
    write
        Called with the temporary path, which has the suffix of `path`;
        must write the complete file.

    Raises
    ------
    OSError
        If the file cannot be written (disk full, no permission); it names
        `path`. An existing file is then unchanged, and the temporary one is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{uuid4().hex[:8]}{path.suffix}")
    try:
        with naming(path):
            write(temporary)
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            _replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def write_folder_atomic(path: Path, write: Callable[[Path], None]) -> None:
    """Write a temporary folder, and rename it to its final name.

    Parameters
    ----------
    path
        Folder to create or replace.
    write
        Called with the temporary path; must write the complete folder.

    Raises
    ------
    OSError
        If the folder cannot be written; it names `path`. An existing folder is then unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unique = uuid4().hex[:8]
    temporary, old = (path.with_name(f".{path.name}.{unique}.{end}") for end in ("new", "old"))
    try:
        with naming(path):
            write(temporary)
            _sync_files(temporary)
            if path.exists():
                _replace(path, old)
            try:
                _replace(temporary, path)
            except OSError:
                if old.exists():
                    old.replace(path)
                raise
    finally:
        for leftover in (temporary, old):
            _remove(leftover)
    _sync_folder(path.parent)


def _replace(source: Path, target: Path) -> None:
    """Rename; on Windows, try again while another process has one of the two open."""
    for _ in range(_ATTEMPTS if sys.platform == "win32" else 0):
        try:
            source.replace(target)
        except PermissionError:
            time.sleep(_PAUSE)
        else:
            return
    source.replace(target)


def _remove(folder: Path) -> None:
    # After a failure, other threads of zarr may still be writing, and create the folder again.
    for _ in range(_REMOVALS):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Set the file name of any OSError of the block; that of a full disk has none."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes atomically; see `write_atomic`."""

    def write(temporary: Path) -> None:
        temporary.write_bytes(content)

    write_atomic(path, write)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically, without converting line ends; see `write_atomic`."""
    # The text may contain file names that are no UTF-8, whose bytes are written unchanged.
    write_bytes(path, text.encode("utf-8", "surrogateescape"))


def _sync_files(folder: Path) -> None:
    for each in folder.rglob("*"):
        if each.is_file():
            with each.open("rb+") as file:
                os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Sync a folder, which makes a rename durable; POSIX only."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
