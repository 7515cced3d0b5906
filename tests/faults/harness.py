"""Fault injection: kills, full disks, mutated files, little memory.

A seed chooses the time of a fault, so that failures are reproducible.
"""

import errno
import multiprocessing
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import pytest

posix = pytest.mark.skipif(os.name != "posix", reason="forks and signals are POSIX's")
linux = pytest.mark.skipif(sys.platform != "linux", reason="limits of the memory are Linux's")

_PRELOADED = ["src_training.cli", "src_training.runs.pipeline", "zarr", "dask.array", "distributed"]
"""What a command imports: each child would take a second for it."""

_CHANGES = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "shutil.rmtree"}
"""Audit events that change a folder; `open` counts only for writing."""


@dataclass(frozen=True)
class Fault:
    """A fault of a child process.

    Attributes
    ----------
    kind
        ``killed`` by SIGKILL, ``asleep`` by SIGSTOP until SIGCONT, or ``full``: this change
        and all later ones raise ENOSPC.
    folder
        Folder whose changes are counted.
    change
        Number of the change before which the fault happens, from 1.
    """

    kind: Literal["killed", "asleep", "full"]
    folder: Path
    change: int


@dataclass(frozen=True)
class Ended:
    """Result of a child process.

    Attributes
    ----------
    code
        Exit code; negative number of the signal that killed it.
    said
        Output on stdout and stderr.
    changes
        Number of changes to the fault's folder; 0 if it was killed.
    """

    code: int
    said: str
    changes: int = 0


def in_child(
    function: Callable[..., object],
    *arguments: Any,
    fault: Fault | None = None,
    memory: int | None = None,
    seconds: float = 300,
) -> Ended:
    """Call a function in a new process that already has torch imported.

    Parameters
    ----------
    function, arguments
        A function of a module, so that it can be pickled, such as `msankd`.
    fault
        Fault to inject.
    memory
        Bytes of address space that the process may allocate after its start.
    seconds
        Timeout, after which the process is killed and the test fails.
    """
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload(_PRELOADED)
    with TemporaryDirectory() as folder:
        printed, count = Path(folder) / "printed", Path(folder) / "count"
        child = forks.Process(
            target=_child, args=(function, arguments, fault, memory, printed, count)
        )
        child.start()
        child.join(seconds)
        if child.exitcode is None:
            child.kill()
            child.join()
            pytest.fail(f"still at work after {seconds} s: {printed.read_text('utf-8')}")
        said = printed.read_text("utf-8", errors="replace") if printed.exists() else ""
        changes = int(count.read_text()) if count.exists() else 0
        return Ended(child.exitcode, said, changes)


def msankd(*arguments: object) -> None:
    """Run a command line; for `in_child`."""
    from src_training.cli import main

    sys.argv = ["msankd", *map(str, arguments)]
    main()


def moments(seed: int, count: int, last: int) -> list[int]:
    """Return `count` sorted random numbers of changes from 1 to `last`."""
    return sorted(random.Random(seed).sample(range(1, last + 1), min(count, last)))


def mutated(content: bytes, seed: int) -> bytes:
    """Return bytes with one mutation: a bit flip, or a lost, repeated, overwritten or cut piece.
    >>> mutated(b"0123456789", seed=1) == mutated(b"0123456789", seed=1) != b"0123456789"
    True
    """
    rng = random.Random(seed)
    start = rng.randrange(len(content))
    end = min(len(content), start + rng.choice((1, 4, 64, 4096)))
    piece = content[start:end]
    noise = rng.randbytes(len(piece))
    changed = {
        "flipped": bytes([piece[0] ^ 1 << rng.randrange(8)]) + piece[1:],
        "lost": b"",
        "doubled": piece + piece,
        "zeroed": bytes(len(piece)),
        "noise": noise,
        "cut": piece[: len(piece) // 2],
    }
    kind = rng.choice(list(changed))
    return content[:start] + changed[kind] + (b"" if kind == "cut" else content[end:])


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """Mount a disk of `size` bytes on a folder; skips the test if that is not permitted."""
    folder.mkdir(parents=True, exist_ok=True)
    if sys.platform != "linux" or os.geteuid():
        pytest.skip("a small disk needs root on Linux")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("the system mounts no disk here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _child(
    function: Callable[..., object],
    arguments: tuple[Any, ...],
    fault: Fault | None,
    memory: int | None,
    printed: Path,
    count: Path,
) -> None:
    """Call the function with its output in a file."""
    output = os.open(printed, os.O_WRONLY | os.O_CREAT)
    for number in (1, 2):
        os.dup2(output, number)
    watch = None if fault is None else _Watch(fault)
    if watch is not None:
        sys.addaudithook(watch)
    if memory is not None:
        _limit_memory(memory)
    try:
        function(*arguments)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        if watch is not None:
            watch.fault = None
            count.write_text(str(watch.changes))


class _Watch:
    """An audit hook that counts changes in a folder, and triggers the fault."""

    def __init__(self, fault: Fault) -> None:
        self.fault: Fault | None = fault
        self._folder, self.changes = fault.folder.absolute(), 0

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        fault = self.fault
        if fault is None or event not in _CHANGES or not self._is_change(event, arguments):
            return
        self.changes += 1
        if fault.kind in ("killed", "asleep") and self.changes == fault.change:
            os.kill(os.getpid(), signal.SIGKILL if fault.kind == "killed" else signal.SIGSTOP)
        frees = event in ("os.remove", "os.rmdir", "os.rename", "shutil.rmtree")
        if fault.kind == "full" and self.changes >= fault.change and not frees:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _is_change(self, event: str, arguments: tuple[Any, ...]) -> bool:
        path = arguments[0]
        if not isinstance(path, str | bytes | os.PathLike):
            return False
        writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT
        if event == "open" and not arguments[2] & writes:
            return False
        return Path(os.fsdecode(path)).absolute().is_relative_to(self._folder)


def _limit_memory(size: int) -> None:
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + size
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
