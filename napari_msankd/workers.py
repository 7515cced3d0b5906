"""Generators in worker threads, whose errors arrive as `Failure` values; and timers."""

import atexit
import errno
import logging
import os
import sys
import traceback
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import Any

from qtpy.QtCore import QObject, QTimer, Signal
from superqt.utils import GeneratorWorker

from src_training.errors import InputError, is_out_of_memory

log = logging.getLogger(__name__)

Steps = Generator[Any, None, None]

LONGEST_END = 30.0
"""Seconds that the program waits for its workers when it exits."""


@atexit.register
def _await_workers() -> None:
    """Wait for workers at exit, then exit without them.

    Qt deletes their signals at exit; a worker that still runs, such as an import of torch on a
    busy computer, would abort Python.
    """
    try:
        GeneratorWorker.await_workers(round(LONGEST_END * 1000))
    except RuntimeError:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        os._exit(1)


@dataclass(frozen=True)
class Failure:
    """An error for the window.

    Attributes
    ----------
    sentence
        Message that the widget shows.
    traceback
        Traceback of an unexpected error; empty if the user can fix the cause.
    """

    sentence: str
    traceback: str = ""


class Worker(QObject):
    """Run a generator in a thread; its items arrive in the main thread.

    Parameters
    ----------
    steps
        Generator, advanced in the thread until it ends, raises, or is cancelled.
    parent
        Qt parent; the worker is cancelled when it is destroyed.
    title
        Title of a long task, such as ``Segmenting 'fundus A'``. With a title, napari asks
        before it closes during the task, and shows a progress bar in its activity dock once
        an item with ``done`` and ``total`` arrives.

    Attributes
    ----------
    yielded
        Emitted with each item.
    failed
        Emitted with a `Failure` if the generator raises.
    finished
        Emitted at the end, after success or failure, unless it was cancelled.
    """

    yielded = Signal(object)
    failed = Signal(object)
    finished = Signal()

    def __init__(self, steps: Steps, parent: QObject, title: str = "") -> None:
        super().__init__(parent)
        self._steps = steps
        self._title = title
        self._listening = True
        self._bar: Any = None
        self._drawing = False
        task = _Task(_catch_errors, [steps])
        task.title = title
        self._worker = _create(task) if title else GeneratorWorker(task)
        self._worker.yielded.connect(self._on_yielded)
        self._worker.finished.connect(self._on_finished)
        self.destroyed.connect(self._worker.quit)

    def start(self) -> None:
        """Start the thread."""
        self._worker.start()

    def quit(self) -> None:
        """Stop at the next item."""
        self._worker.quit()

    def cancel(self) -> None:
        """Stop at the next item, and emit no more signals."""
        self._listening = False
        self._close_bar()
        self._worker.quit()

    def _on_yielded(self, item: Any) -> None:
        if not self._listening:
            return
        if isinstance(item, Failure):
            self.failed.emit(item)
        else:
            # Emit first: napari processes events while it draws a bar, so that a later item
            # could arrive before this one.
            self.yielded.emit(item)
            self._show_progress(item)

    def _on_finished(self) -> None:
        # napari keeps a reference to every worker; closing the generator frees its arrays.
        self._steps.close()
        self._close_bar()
        if self._listening:
            self._listening = False
            self.finished.emit()
        self.deleteLater()

    def _show_progress(self, item: Any) -> None:
        total = getattr(item, "total", 0)
        if not self._title or self._drawing or not isinstance(total, int) or total < 2:
            return
        self._drawing = True
        if self._bar is None:
            from napari.utils import progress

            self._bar = progress(total=total, desc=self._title)
        self._bar.total = total
        self._bar.update(item.done - self._bar.n)
        self._drawing = False
        if not self._listening:
            self._close_bar()

    def _close_bar(self) -> None:
        if self._bar is not None and not self._drawing:
            self._bar.close()
            self._bar = None


class WorkerGroup:
    """Workers by key, at most one for each.

    Parameters
    ----------
    parent
        Qt parent; all workers are cancelled when it is destroyed.
    failed
        Called with the `Failure` of a worker that has no `failed` callback of its own.
    """

    def __init__(self, parent: QObject, failed: Callable[[Failure], None]) -> None:
        self._parent = parent
        self._failed = failed
        self._running: dict[str, Worker] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._running

    def __len__(self) -> int:
        return len(self._running)

    def start(
        self,
        key: str,
        steps: Steps,
        yielded: Callable[[Any], None],
        failed: Callable[[Failure], None] | None = None,
        title: str = "",
    ) -> None:
        """Start a worker, and cancel the former one of the key. `title` as in `Worker`."""
        self.cancel(key)
        worker = self._running[key] = Worker(steps, self._parent, title)
        worker.yielded.connect(yielded)
        worker.failed.connect(failed or self._failed)
        worker.finished.connect(lambda: self._running.pop(key, None))
        worker.start()

    def cancel(self, key: str) -> None:
        """Cancel the worker of a key, if there is one; it stops at its next item."""
        if key in self._running:
            self._running.pop(key).cancel()

    def cancel_all(self) -> None:
        """Cancel every worker."""
        for key in tuple(self._running):
            self.cancel(key)


def timer(
    parent: QObject, slot: Callable[[], object], interval: int = 0, single_shot: bool = True
) -> QTimer:
    """Create a timer, `interval` in ms; Qt deletes it with the parent."""
    qtimer = QTimer(parent)
    qtimer.setInterval(interval)
    qtimer.setSingleShot(single_shot)
    qtimer.timeout.connect(slot)
    return qtimer


class _Task(partial):  # type: ignore[type-arg]
    """A generator function with the name that napari shows when it asks before closing."""

    title = ""

    def __str__(self) -> str:
        return self.title


def _create(task: _Task) -> GeneratorWorker:
    from napari.qt.threading import create_worker

    return create_worker(task, _start_thread=False)


def _catch_errors(holder: list[Steps]) -> Steps:
    # superqt's workers swallow a RuntimeError, which most errors of torch are.
    try:
        yield from holder.pop()
    except Exception as error:
        failure = as_failure(error)
        if failure.traceback:
            log.exception("a worker failed")
        yield failure


def as_failure(error: Exception) -> Failure:
    """An exception as a `Failure`; only an unexpected one has a traceback."""
    if isinstance(error, InputError):
        return Failure(str(error))
    if is_out_of_memory(error):
        return Failure("Out of memory. Close layers, or set Device to cpu in Preferences.")
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        where = f" of {error.filename}" if error.filename else ""
        return Failure(f"The disk{where} is full. Free some space, or choose another folder.")
    if isinstance(error, OSError):
        return Failure(f"A file could not be used: {error}.")
    return Failure(
        f"Unexpected error ({type(error).__name__}: {error}). Please report it (Details…).",
        "".join(traceback.format_exception(error)),
    )
