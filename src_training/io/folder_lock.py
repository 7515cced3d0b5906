"""Locking a folder against other processes, and detecting that it was moved or removed."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from src_training.errors import InputError
from src_training.io.atomic import naming

LOCK = ".lock"
_WAIT_SECONDS = 0.2
_NO_LOCKS = (None, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
"""Values of ``errno`` on file systems without locks."""


@dataclass(frozen=True)
class HeldFolder:
    """A folder that this process has locked.

    Attributes
    ----------
    path
        Path of the folder when it was locked.
    identity
        Device and inode of its lock file, which tell whether another file is at the path.
    """

    path: Path
    identity: tuple[int, int]

    def require(self) -> None:
        """Raise InputError if the folder was renamed or removed, even if the path exists again.

        Called before each file is written, so that results are not split over two folders.
        """
        try:
            current = _identity(self.path)
        except FileNotFoundError:
            current = None
        if current != self.identity:
            raise InputError(
                f"{self.path} was renamed or removed while it was being written to; expected it "
                "to stay: what is done lies where the folder is now, and can be resumed there"
            )


@contextmanager
def hold(folder: Path) -> Iterator[HeldFolder]:
    """Lock a folder; the operating system releases the lock if this process dies.

    Parameters
    ----------
    folder
        Folder to lock; created if missing.

    Raises
    ------
    InputError
        If another process holds the lock, or the file system has no locks.
    """
    lock = FileLock(folder / LOCK)
    try:
        with naming(folder):
            folder.mkdir(parents=True, exist_ok=True)
            # `is_held` in another process acquires the lock for an instant.
            lock.acquire(timeout=_WAIT_SECONDS)
        held = HeldFolder(folder, _identity(folder))
    except (Timeout, FileNotFoundError):  # the process that held the lock has removed the folder
        raise InputError(
            f"{folder} is in use by another process; expected a folder that is free"
        ) from None
    except (OSError, NotImplementedError) as error:
        if getattr(error, "errno", None) not in _NO_LOCKS:  # such as a full disk
            raise
        raise InputError(
            f"{folder} cannot be locked ({getattr(error, 'strerror', '') or 'no locks'}); expected "
            "a folder on a disk with locks, such as a local one"
        ) from None
    try:
        yield held
    finally:
        lock.release()


def is_held(folder: Path) -> bool:
    """Whether a process has locked a folder; false if unknown, such as on a read-only disk."""
    if not (folder / LOCK).exists():  # acquiring the lock would create the folder
        return False
    try:
        with FileLock(folder / LOCK, timeout=0):
            return False
    except Timeout:
        return True
    except (OSError, NotImplementedError):  # a disk without locks, or that is read-only
        return False


def _identity(folder: Path) -> tuple[int, int]:
    status = (folder / LOCK).stat()
    return status.st_dev, status.st_ino
