"""Training several runs of a comparison in parallel, each in its own process."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from src_training.comparison.plan import PlannedRun, check_directories
from src_training.errors import InputError
from src_training.runs.events import Event, RunStarted
from src_training.runs.history import RunFollower
from src_training.runs.process import Output, request_stop, start_distil, to_begin, to_resume
from src_training.runs.state import run_state
from src_training.training.distributed.launch import PARENT_PID
from src_training.training.interruption import Interrupted

_POLL_SECONDS = 0.2


class Display(Protocol):
    """Shows the progress of several runs."""

    def begin(self, name: str) -> None:
        """Called when the process of a run has started."""

    def show(self, name: str, event: Event) -> None:
        """Called with each event of a run."""

    def end(self, name: str, why: str) -> None:
        """Called when the process of a run has ended; `why` it failed, empty if it did not."""


def run_concurrently(
    plan: Sequence[PlannedRun],
    devices: Sequence[str],
    display: Display,
    stopping: Callable[[], bool],
) -> dict[str, str]:
    """Run the unfinished runs of a comparison, one on each device at a time.

    A run begins after the run whose stages it needs is done. The processes
    share the threads of the CPU, unless ``OMP_NUM_THREADS`` sets the number of
    each. They end if this process ends for any reason.

    Parameters
    ----------
    plan
        See `plan_runs`.
    devices
        See `device_names`.
    display
        Receives the events of all runs.
    stopping
        Called several times a second; true stops all runs, which can be resumed.

    Returns
    -------
    dict
        Name of each run that failed, or needs one that failed -> reason. All others are done.

    Raises
    ------
    InputError
        If a directory contains another run; no run is begun then.
    Interrupted
        If `stopping` returned true.
    """
    check_directories(plan)
    runs = _RunQueue(plan, devices, display)
    try:
        while runs.start_ready():
            if stopping():
                raise Interrupted
            time.sleep(_POLL_SECONDS)
            runs.poll()
    finally:
        runs.stop()
    return runs.failed | {run.name: run.waiting_reason for run in runs.waiting}


class _RunQueue:
    """The waiting, running and failed runs.

    Attributes
    ----------
    failed
        Name of each failed run -> reason.
    waiting
        Runs that have not begun.
    """

    def __init__(
        self, plan: Sequence[PlannedRun], devices: Sequence[str], display: Display
    ) -> None:
        earlier = {run.shares_with for run in plan if run.shares_with} - {
            run.directory for run in plan
        }
        self._done = {run.directory for run in plan if run.done} | earlier
        # Rows of equal recipes are the same run: keep the first one.
        unique = {run.directory: run for run in reversed(plan) if run.directory not in self._done}
        self.waiting = list(unique.values())[::-1]
        self._free, self._display = list(devices), display
        self._environment = _environment(len(devices))
        self._processes: list[_RunProcess] = []
        self.failed: dict[str, str] = {}

    def start_ready(self) -> bool:
        """Start a run on each free device if one can begin; return whether any is running."""
        ready = [
            run for run in self.waiting if run.shares_with is None or run.shares_with in self._done
        ]
        # Runs that others depend on go first, so that no device is idle at the end.
        needed = {run.shares_with for run in self.waiting}
        ready.sort(key=lambda run: run.directory not in needed)
        for run, device in list(zip(ready, self._free, strict=False)):
            self.waiting.remove(run)
            self._free.remove(device)
            self._display.begin(run.name)
            self._processes.append(_RunProcess(run, device, self._environment))
        return bool(self._processes)

    def poll(self) -> None:
        """Pass on new events, and free the devices of runs that ended."""
        for process in list(self._processes):
            ended = process.popen.poll() is not None
            for event in process.events():
                self._display.show(process.run.name, event)
            if ended:
                self._end(process)

    def stop(self) -> None:
        """Stop the processes, and wait until each has saved its steps."""
        for process in self._processes:
            request_stop(process.popen, process.run.directory)
        try:
            for process in self._processes:
                process.popen.wait()
        finally:
            # A second interrupt ends the waiting; the processes must not outlive this one.
            for process in self._processes:
                process.popen.kill()
                process.popen.wait()

    def _end(self, process: "_RunProcess") -> None:
        self._processes.remove(process)
        self._free.append(process.device)
        reason = "" if process.popen.returncode == 0 else process.failure()
        self._display.end(process.run.name, reason)
        if reason:
            self.failed[process.run.name] = reason
        else:
            self._done.add(process.run.directory)


class _RunProcess:
    """The process of a run, and its events."""

    def __init__(self, run: PlannedRun, device: str, environment: Mapping[str, str]) -> None:
        self.run, self.device, self._started = run, device, False
        directory = run.directory
        arguments = to_resume(directory) if run.prepare() else to_begin(run.recipe, directory)
        self._follower = RunFollower(directory.path)
        while self._follower.poll():
            # Skip the events of earlier processes.
            continue
        self._output = Output(directory.output)
        # Ctrl+C must not reach the process directly; `stop` passes it on.
        self.popen = start_distil(
            [*arguments, "--device", device], directory, env=environment, start_new_session=True
        )

    def events(self) -> Iterator[Event]:
        """Iterate over the events since the last call."""
        while events := self._follower.poll():
            for event in events:
                self._started = self._started or isinstance(event, RunStarted)
                yield event

    def failure(self) -> str:
        """Reason of the failure: from the last event, or the last line of the output."""
        reason = run_state(self.run.directory.path).stop_reason if self._started else ""
        reason = reason or self._output.last_line() or "killed, or out of memory"
        return reason.removeprefix(f"{InputError.__name__}: ")


def _environment(processes: int) -> dict[str, str]:
    threads = max(1, (os.cpu_count() or 1) // processes)
    return {"OMP_NUM_THREADS": str(threads), **os.environ, PARENT_PID: str(os.getpid())}
