"""Holding a folder against other processes, and noticing when it is no longer there."""

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


@dataclass(frozen=True)
class HeldFolder:
    """A folder that this process holds.

    Attributes
    ----------
    path
        Where it was when it was taken.
    identity
        Of its lock file on the disk: another file in its place has another.
    """

    path: Path
    identity: tuple[int, int]

    def require(self) -> None:
        """Raise InputError if the folder was renamed or removed, whatever is in its place now.

        Called before each file is written, so that no second half of a folder comes to be.
        """
        try:
            there = _identity(self.path)
        except FileNotFoundError:
            there = None
        if there != self.identity:
            raise InputError(
                f"{self.path} was renamed or removed while it was being written to; expected it "
                "to stay: what is done lies where the folder is now, and can be resumed there"
            )


@contextmanager
def hold(folder: Path) -> Iterator[HeldFolder]:
    """Hold a folder; it is released by the system if this process dies.

    Parameters
    ----------
    folder
        Made if missing.

    Raises
    ------
    InputError
        If another process holds it, or its disk has no locks.
    """
    lock = FileLock(folder / LOCK)
    try:
        with naming(folder):
            folder.mkdir(parents=True, exist_ok=True)
            # Whoever looks whether it is in use holds it for an instant.
            lock.acquire(timeout=_WAIT_SECONDS)
        held = HeldFolder(folder, _identity(folder))
    except (Timeout, FileNotFoundError):  # or its holder removed it in this instant
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
    """Whether a process holds a folder; false where it cannot be known, as on a read-only disk."""
    if not (folder / LOCK).exists():  # taking it would make the folder
        return False
    try:
        with FileLock(folder / LOCK, timeout=0):
            return False
    except Timeout:
        return True
    except (OSError, NotImplementedError):
        return False


def _identity(folder: Path) -> tuple[int, int]:
    found = (folder / LOCK).stat()
    return found.st_dev, found.st_ino
