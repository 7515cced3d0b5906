"""Atomic writing: a reader sees the former or the new file, never a part of one."""

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

_REMOVALS = 5
_PATIENCE, _PAUSE = 40, 0.05
"""How often, and how many seconds apart, a file is replaced that another process reads."""


def write_atomic(path: Path, write: Callable[[Path], None]) -> None:
    """Write a file through a temporary neighbour, fsync it and rename it.

    Parameters
    ----------
    path
        The file to make or to replace. Its folder is made if missing.
    write
        Called with the temporary path, which has the suffix of `path`;
        must write that file completely.

    Raises
    ------
    OSError
        If the file cannot be written (disk full, no permission); it names
        `path`. The former file is whole and the temporary one is removed.
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
    """Write a folder through a temporary neighbour and rename it.

    Parameters
    ----------
    path
        The folder to make or to replace.
    write
        Called with the temporary path, which must be a whole folder after it.

    Raises
    ------
    OSError
        If it cannot be written; it names `path`. The former folder is whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    mark = uuid4().hex[:8]
    temporary, former = (path.with_name(f".{path.name}.{mark}.{end}") for end in ("new", "old"))
    try:
        with naming(path):
            write(temporary)
            _sync_files(temporary)
            if path.exists():
                _replace(path, former)
            try:
                _replace(temporary, path)
            except OSError:
                if former.exists():
                    former.replace(path)
                raise
    finally:
        for leftover in (temporary, former):
            _remove(leftover)
    _sync_folder(path.parent)


def _replace(source: Path, target: Path) -> None:
    """Rename; on Windows only once no other process has one of the two open."""
    for _ in range(_PATIENCE if sys.platform == "win32" else 0):
        try:
            source.replace(target)
        except PermissionError:
            time.sleep(_PAUSE)
        else:
            return
    source.replace(target)


def _remove(folder: Path) -> None:
    # Threads of zarr that were still writing when one of them failed may make it anew.
    for _ in range(_REMOVALS):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Set the file name of any OSError of the block: that of a full disk has none."""
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
    """Write UTF-8 text atomically, the same bytes on every system; see `write_atomic`."""
    # Bytes of a file's name that are no UTF-8 are written as they are.
    write_bytes(path, text.encode("utf-8", "surrogateescape"))


def _sync_files(folder: Path) -> None:
    for each in folder.rglob("*"):
        if each.is_file():
            with each.open("rb+") as file:
                os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable, where the system lets folders be opened."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
