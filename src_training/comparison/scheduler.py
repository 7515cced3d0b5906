"""Several runs of a comparison at once, each in a process of its own."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from src_training.comparison.plan import PlannedRun, refuse_other_runs
from src_training.errors import InputError
from src_training.runs.events import Event, RunStarted
from src_training.runs.history import RunFollower
from src_training.runs.process import Output, command, to_begin, to_resume
from src_training.runs.state import run_state
from src_training.training.distributed.launch import PARENT_PID
from src_training.training.interruption import Interrupted

_TICK = 0.2


class Display(Protocol):
    """Shows several runs while they are under way."""

    def begin(self, name: str) -> None:
        """Add a run whose process has started."""

    def show(self, name: str, event: Event) -> None:
        """Show an event of a run."""

    def end(self, name: str, why: str) -> None:
        """Remove a run whose process has ended; `why` it failed, empty if it did not."""


def run_at_once(
    plan: Sequence[PlannedRun],
    devices: Sequence[str],
    display: Display,
    stopping: Callable[[], bool],
) -> dict[str, str]:
    """Run what is left of a comparison, one run on each device at a time.

    A run begins once that is done whose stages it takes over. The processes
    share the threads of the CPU among them, unless ``OMP_NUM_THREADS`` says
    how many each has. They end when this one does, however it does.

    Parameters
    ----------
    plan
        See `planned_runs`.
    devices
        See `device_names`.
    display
        Shows the events of all runs.
    stopping
        Asked several times a second; true stops them all, to be resumed.

    Returns
    -------
    dict
        Name of each run that failed, or waits for one that did -> why. All others are done.

    Raises
    ------
    InputError
        If a directory holds another run; nothing was begun then.
    Interrupted
        If `stopping` said so.
    """
    refuse_other_runs(plan)
    runs = _Runs(plan, devices, display)
    try:
        while runs.begin():
            if stopping():
                raise Interrupted
            time.sleep(_TICK)
            runs.look()
    finally:
        runs.stop()
    return runs.failed | {run.name: run.not_begun for run in runs.waiting}


class _Runs:
    """Those that wait, those under way and those that ended.

    Attributes
    ----------
    failed
        Name -> why.
    waiting
        Those that were not begun.
    """

    def __init__(
        self, plan: Sequence[PlannedRun], devices: Sequence[str], display: Display
    ) -> None:
        earlier = {run.shared for run in plan if run.shared} - {run.folder for run in plan}
        self._done = {run.folder for run in plan if run.done} | earlier
        # Rows that ask for the same are one run.
        left = {run.folder: run for run in reversed(plan) if run.folder not in self._done}
        self.waiting = list(left.values())[::-1]
        self._free, self._display = list(devices), display
        self._environment = _environment(len(devices))
        self._children: list[_Child] = []
        self.failed: dict[str, str] = {}

    def begin(self) -> bool:
        """Give each free device a run that can be begun; whether any is under way then."""
        ready = [run for run in self.waiting if run.shared is None or run.shared in self._done]
        # Those that others wait for come first, else a device may have nothing to do in the end.
        awaited = {run.shared for run in self.waiting}
        ready.sort(key=lambda run: run.folder not in awaited)
        for run, device in list(zip(ready, self._free, strict=False)):
            self.waiting.remove(run)
            self._free.remove(device)
            self._display.begin(run.name)
            self._children.append(_Child(run, device, self._environment))
        return bool(self._children)

    def look(self) -> None:
        """Show what the runs said, and free the devices of those that ended."""
        for child in list(self._children):
            ended = child.process.poll() is not None
            for event in child.events():
                self._display.show(child.run.name, event)
            if ended:
                self._end(child)

    def stop(self) -> None:
        """Let those under way keep their steps and end."""
        for child in self._children:
            child.process.terminate()
        try:
            for child in self._children:
                child.process.wait()
        finally:
            # Where a second interrupt ended the waiting.
            for child in self._children:
                child.process.kill()

    def _end(self, child: "_Child") -> None:
        self._children.remove(child)
        self._free.append(child.device)
        why = "" if child.process.returncode == 0 else child.last_words()
        self._display.end(child.run.name, why)
        if why:
            self.failed[child.run.name] = why
        else:
            self._done.add(child.run.folder)


class _Child:
    """A run under way: its process, and what it says in its directory."""

    def __init__(self, run: PlannedRun, device: str, environment: Mapping[str, str]) -> None:
        self.run, self.device, self._heard = run, device, False
        folder = run.folder
        arguments = to_resume(folder) if run.prepare() else to_begin(run.recipe, folder)
        self._follower = RunFollower(folder.path)
        while self._follower.poll():
            # What was said before is of a process that ended.
            continue
        self._printed = Output(folder.output)
        with folder.output.open("ab") as output:
            self.process = subprocess.Popen(
                command([*arguments, "--device", device]),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # The directory this was started in may hold modules of other names.
                cwd=folder.path,
                env=environment,
                # An interrupt from the keyboard is for the first process to hand on.
                start_new_session=True,
            )

    def events(self) -> Iterator[Event]:
        """What was said since the last call."""
        while events := self._follower.poll():
            for event in events:
                self._heard = self._heard or isinstance(event, RunStarted)
                yield event

    def last_words(self) -> str:
        """Why it failed: as the run said, or where it never came to be one, as was printed."""
        said = run_state(self.run.folder.path).last_words if self._heard else ""
        said = said or self._printed.last_line() or "killed, or out of memory"
        return said.removeprefix(f"{InputError.__name__}: ")


def _environment(at_once: int) -> dict[str, str]:
    threads = max(1, (os.cpu_count() or 1) // at_once)
    return {"OMP_NUM_THREADS": str(threads), **os.environ, PARENT_PID: str(os.getpid())}
