"""Generators in a worker thread; what goes wrong in them arrives as a value, in a sentence."""

import atexit
import errno
import logging
import traceback
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import Any

from qtpy.QtCore import QObject, Signal
from superqt.utils import GeneratorWorker

from src_training.errors import InputError, is_out_of_memory

log = logging.getLogger(__name__)

Steps = Generator[Any, None, None]

# A script that ends with a worker under way would take its signals from under it.
atexit.register(GeneratorWorker.await_workers, 5000)


@dataclass(frozen=True)
class Failure:
    """An error as a person reads it.

    Attributes
    ----------
    sentence
        For the widget.
    traceback
        Where the fault is ours; empty where a person can act.
    """

    sentence: str
    traceback: str = ""


class Worker(QObject):
    """A generator that runs in a thread; its items arrive in this one.

    Parameters
    ----------
    steps
        Advanced in the thread until it ends, raises, or is cancelled.
    parent
        The worker is cancelled with it.
    title
        Of a long task, such as ``Segmenting 'fundus A'``: napari then asks before it closes
        over the task, and shows a bar in its activity dock once an item with ``done`` and
        ``total`` arrives.

    Attributes
    ----------
    yielded
        Emitted with each item.
    failed
        Emitted with a `Failure` if the generator raises.
    finished
        Emitted at the end, however it ends, unless it was cancelled.
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
        """Begin."""
        self._worker.start()

    def quit(self) -> None:
        """End at the next item."""
        self._worker.quit()

    def cancel(self) -> None:
        """End at the next item, and emit nothing more."""
        self._listening = False
        self._close_bar()
        self._worker.quit()

    def _on_yielded(self, item: Any) -> None:
        if not self._listening:
            return
        if isinstance(item, Failure):
            self.failed.emit(item)
        else:
            # napari processes events while it draws a bar: what follows must not overtake this.
            self.yielded.emit(item)
            self._show_progress(item)

    def _on_finished(self) -> None:
        # napari keeps every worker that it was told of: its arrays must go with the generator.
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
    """Workers by key: one that starts takes the place of the one with its key.

    Parameters
    ----------
    parent
        All of them are cancelled with it.
    failed
        Called with the `Failure` of a worker that was started without a callback of its own.
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
        """Start a worker; an earlier one of that key is cancelled. `title` as in `Worker`."""
        self.cancel(key)
        worker = self._running[key] = Worker(steps, self._parent, title)
        worker.yielded.connect(yielded)
        worker.failed.connect(failed or self._failed)
        worker.finished.connect(lambda: self._running.pop(key, None))
        worker.start()

    def cancel(self, key: str) -> None:
        """Cancel the worker of a key, if there is one; it ends at its next item."""
        if key in self._running:
            self._running.pop(key).cancel()

    def cancel_all(self) -> None:
        """Cancel every worker."""
        for key in tuple(self._running):
            self.cancel(key)


class _Task(partial):  # type: ignore[type-arg]
    """A generator function under the name that napari shows when it asks before closing."""

    title = ""

    def __str__(self) -> str:
        return self.title


def _create(task: _Task) -> GeneratorWorker:
    from napari.qt.threading import create_worker

    return create_worker(task, _start_thread=False)


def _catch_errors(holder: list[Steps]) -> Steps:
    # Workers swallow a RuntimeError, and most of torch's errors are one.
    try:
        yield from holder.pop()
    except Exception as error:
        failure = as_failure(error)
        if failure.traceback:
            log.exception("a worker failed")
        yield failure


def as_failure(error: Exception) -> Failure:
    """An exception as a sentence, with its traceback where the fault is ours."""
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
