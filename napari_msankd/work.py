"""Generators in a worker thread, and what goes wrong in them said in a sentence."""

import atexit
import logging
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import QObject, Signal
from superqt.utils import GeneratorWorker

from src_training.errors import InputError

log = logging.getLogger(__name__)

# A script that ends with a worker under way would take its signals from under it.
atexit.register(GeneratorWorker.await_workers, 5000)


@dataclass(frozen=True)
class Failure:
    """What is said of an error.

    Attributes
    ----------
    sentence
        For the widget.
    story
        The traceback where the fault is ours; empty where a person can act.
    """

    sentence: str
    story: str = ""


class WorkFailed(Exception):
    """A generator in a worker raised.

    Parameters
    ----------
    failure
        What is said of it.
    """

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.sentence)
        self.failure = failure


class Work(QObject):
    """A generator that runs in a thread and is listened to in this one.

    Parameters
    ----------
    steps
        Advanced in the worker until it ends, raises, or is quit.
    parent
        With whom it goes; it is quit then.

    Attributes
    ----------
    yielded
        Emitted with each item.
    failed
        Emitted with a `Failure` if the generator raises.
    finished
        Emitted at the end, whatever it was.
    """

    yielded = Signal(object)
    failed = Signal(object)
    finished = Signal()

    def __init__(self, steps: Iterator[Any], parent: QObject) -> None:
        super().__init__(parent)
        # superqt's class and not napari's, which pops up a traceback.
        self._worker: GeneratorWorker = GeneratorWorker(_told, steps)
        self._worker.yielded.connect(self._on_yielded)
        self._worker.errored.connect(self._on_errored)
        self._worker.finished.connect(self._on_finished)
        self.destroyed.connect(self._worker.quit)
        self._heard = True

    def start(self) -> None:
        """Begin."""
        self._worker.start()

    def quit(self) -> None:
        """End at the next item."""
        self._worker.quit()

    def retire(self) -> None:
        """End at the next item, and say nothing more."""
        self._heard = False
        self._worker.quit()

    def _on_yielded(self, item: Any) -> None:
        if self._heard:
            self.yielded.emit(item)

    def _on_errored(self, error: Exception) -> None:
        if self._heard:
            self.failed.emit(_failure(error))

    def _on_finished(self) -> None:
        if self._heard:
            self.finished.emit()
        self.deleteLater()


class Works:
    """Work by name: what begins takes the place of what has its name.

    Parameters
    ----------
    parent
        With whom all of it goes.
    failed
        Called with the `Failure` of work that names no other to tell.
    """

    def __init__(self, parent: QObject, failed: Callable[["Failure"], None]) -> None:
        self._parent = parent
        self._failed = failed
        self._under_way: dict[str, Work] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._under_way

    def __len__(self) -> int:
        return len(self._under_way)

    def begin(
        self,
        name: str,
        steps: Iterator[Any],
        yielded: Callable[[Any], None],
        failed: Callable[["Failure"], None] | None = None,
    ) -> None:
        """Start work; an earlier one of that name is no longer listened to."""
        self.retire(name)
        work = self._under_way[name] = Work(steps, self._parent)
        work.yielded.connect(yielded)
        work.failed.connect(failed or self._failed)
        work.finished.connect(lambda: self._under_way.pop(name, None))
        work.start()

    def retire(self, name: str) -> None:
        """Listen no longer to the work of a name, if there is any; it ends at its next item."""
        if name in self._under_way:
            self._under_way.pop(name).retire()

    def end(self) -> None:
        """Retire everything."""
        for name in tuple(self._under_way):
            self.retire(name)


def _told(steps: Iterator[Any]) -> Iterator[Any]:
    # Workers swallow a RuntimeError, and most of torch's errors are one.
    try:
        yield from steps
    except Exception as error:
        failure = failure_of(error)
        if failure.story:
            log.exception("a worker failed")
        raise WorkFailed(failure) from error


def failure_of(error: Exception) -> Failure:
    """An exception in words."""
    if isinstance(error, InputError):
        return Failure(str(error))
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return Failure(
            "The memory is full: close what is open, or choose the processor as the device "
            "under Preferences > Plugins."
        )
    if isinstance(error, OSError):
        return Failure(f"A file could not be used: {error}.")
    story = "".join(traceback.format_exception(error))
    return Failure(f"This is a fault of ours ({type(error).__name__}: {error}).", story)


def _failure(error: Exception) -> Failure:
    return error.failure if isinstance(error, WorkFailed) else failure_of(error)
