"""Following the events of a run, and the progress and curves that they add up to."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import takewhile
from pathlib import Path
from statistics import median
from typing import Literal

from src_training.config.stages import REQUIRED_STAGES
from src_training.runs.directory import RunDirectory
from src_training.runs.events import (
    BatchSplit,
    Event,
    Measured,
    MemoryUsed,
    Noted,
    Previewed,
    RunFinished,
    RunStarted,
    RunStopped,
    StageFinished,
    StageStarted,
    StepDone,
    Validated,
    iter_events,
    read_event,
)

SCORING = "scoring"
"""Title of the phase after the last stage: calibration, thresholds and scores."""


class RunFollower:
    """Reads the new events of a run at each call.

    Parameters
    ----------
    folder
        Directory of the run; need not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        self._path = RunDirectory(folder).events
        self._offset = 0

    def poll(self, limit: int = 500) -> list[Event]:
        """Return at most `limit` new events, in order.

        Starts again from the first event if the file has become shorter, and returns an
        empty list while it is missing.
        """
        events: list[Event] = []
        try:
            with self._path.open("rb") as file:
                if self._path.stat().st_size < self._offset:
                    self._offset = 0
                file.seek(self._offset)
                while len(events) < limit and (line := file.readline()).endswith(b"\n"):
                    self._offset += len(line)
                    if (event := read_event(line)) is not None:
                        events.append(event)
        except FileNotFoundError:
            self._offset = 0
        return events


@dataclass
class StageProgress:
    """Progress of a stage.

    Attributes
    ----------
    name
        Name of the stage, from `STAGES` or from the run's events.
    state
        ``waiting``, ``running`` (begun and not done, even if its process has ended)
        or ``done``.
    step, steps
        Steps done, and all steps; zeros before it begins, and if the
        run copied its result from another run.
    seconds
        Training time up to its last event.
    score
        Best score on the source's validation split; None before the first.
    """

    name: str
    state: Literal["waiting", "running", "done"] = "waiting"
    step: int = 0
    steps: int = 0
    seconds: float = 0.0
    score: float | None = None


@dataclass
class Series:
    """Values by step, such as a loss curve.

    A resumed run may repeat steps: adding a step removes the values at and after it.

    Attributes
    ----------
    steps
        Steps, ascending.
    values
        Value at each step.
    """

    steps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def add(self, step: int, value: float) -> None:
        """Append a value."""
        while self.steps and self.steps[-1] >= step:
            self.steps.pop()
            self.values.pop()
        self.steps.append(step)
        self.values.append(value)


@dataclass
class _Pace:
    """First and last step of the running stage in its current process, for its speed."""

    step: int
    time: float
    last_step: int
    last_time: float

    def seconds_a_step(self) -> float | None:
        done = self.last_step - self.step
        return (self.last_time - self.time) / done if done > 0 else None


class RunHistory:
    """Progress, curves and notes of a run, accumulated from its events.

    Attributes
    ----------
    stages
        Stage name -> progress, in order.
    losses
        Stage -> loss -> unweighted values; ``total`` is their weighted sum.
    scores
        Stage -> scores on the source's validation split.
    fsd
        Test domain -> distance to the source, by step of ``distil``.
    device, precision, process, processes
        Fields of the last `RunStarted`; empty or 0 before it.
    memory
        Memory use of the computer and of the device in bytes; None before the first event.
    preview
        Stage, step and file (relative to the run's directory) of the last preview.
    notes
        Notes for the user, one sentence each.
    intervals
        Stage -> seconds of its steps, validations left out.
    state
        ``waiting`` before the first event, then ``running``, ``finished`` or
        ``stopped`` according to the events; see `run_state` for runs whose process died.
    stop_reason
        Reason of the last stop.
    """

    def __init__(self) -> None:
        self.stages = {name: StageProgress(name) for name in REQUIRED_STAGES}
        self.losses: dict[str, dict[str, Series]] = {}
        self.scores: dict[str, Series] = {}
        self.fsd: dict[str, Series] = {}
        self.device = ""
        self.precision = ""
        self.process = 0
        self.processes = 0
        self.memory: tuple[int, int] | None = None
        self.preview: tuple[str, int, str] | None = None
        self.notes: list[str] = []
        self.intervals: dict[str, list[float]] = {}
        self.state: Literal["waiting", "running", "finished", "stopped"] = "waiting"
        self.stop_reason = ""
        self._now, self._has_clock = 0.0, False
        self._last_step: float | None = None
        self._pace: _Pace | None = None

    def step_seconds(self, stage: str) -> float | None:
        """Median seconds of a step of a stage; None if none was timed."""
        intervals = self.intervals.get(stage)
        return median(intervals) if intervals else None

    def read(self, path: Path) -> Event | None:
        """Take every event of an ``events.jsonl``, and return the last one, if there is any."""
        event = None
        for event in iter_events(path):
            self.take(event)
        return event

    def take(self, event: Event) -> None:
        """Update the history by the next event."""
        self._pass_time(event)
        if isinstance(event, StepDone):
            if self._last_step is not None:
                took = self._now - self._last_step
                self.intervals.setdefault(event.stage, []).append(took)
            self._last_step = self._now
        elif isinstance(event, Validated | RunStarted):
            self._last_step = None
        match event:
            case RunStarted():
                self.state, self.stop_reason = "running", ""
                self.device, self.precision = event.device, event.precision
                self.process, self.processes = event.process, event.processes
                # Events of former versions do not name the stages.
                named = event.stages or list(self.stages)
                begun = [name for name, stage in self.stages.items() if stage.state != "waiting"]
                self.stages = {name: self._stage(name) for name in (*named, *begun)}
            case StageStarted():
                self._begin(event)
            case StepDone():
                self._step(event)
            case Validated():
                self.scores.setdefault(event.stage, Series()).add(event.step, event.score)
                if event.best:
                    self._stage(event.stage).score = event.score
            case Measured():
                for target, value in event.fsd.items():
                    self.fsd.setdefault(target, Series()).add(event.step, value)
            case Previewed():
                self.preview = (event.stage, event.step, event.file)
            case MemoryUsed():
                self.memory = (event.host, event.device)
            case BatchSplit() | Noted():
                self._note(event)
            case StageFinished():
                stage = self._stage(event.stage)
                stage.state, stage.step, stage.seconds = "done", stage.steps, event.seconds
                stage.score = event.score
            case RunFinished():
                self.state = "finished"
            case RunStopped():
                self.state, self.stop_reason = "stopped", event.reason

    @property
    def position(self) -> tuple[str, int, int]:
        """Name of the current stage, its steps done, and all its steps.

        `SCORING` and zeros after the last stage; an empty name and zeros before
        the first stage and at the end of the run.
        """
        begun = [stage for stage in self.stages.values() if stage.step or stage.state != "waiting"]
        if self.state == "finished" or not begun:
            return "", 0, 0
        if begun[-1].state == "done" and begun[-1] is list(self.stages.values())[-1]:
            return SCORING, 0, 0
        return begun[-1].name, begun[-1].step, begun[-1].steps

    def stage_seconds_left(self) -> float | None:
        """Return the remaining seconds of the running stage; None before its second step."""
        running = self._running()
        pace = self._pace.seconds_a_step() if self._pace is not None else None
        if running is None or pace is None:
            return None
        return pace * (running.steps - running.step)

    def seconds_left(self, estimate: Mapping[str, float] | None = None) -> float | None:
        """Return the remaining seconds of the whole run.

        Parameters
        ----------
        estimate
            Estimated seconds of each stage by name, and of the phases after the stages. Entries
            of stages that wait are scaled by how much longer the finished ones took.

        Returns
        -------
        float or None
            None if a stage is waiting for which there is no estimate.
        """
        if self.state == "finished":
            return 0.0
        known = estimate or {}
        begun = {name: stage for name, stage in self.stages.items() if stage.state != "waiting"}
        waiting = [name for name in self.stages if name not in begun]
        if any(name not in known for name in waiting):
            return None
        after = sum(seconds for name, seconds in known.items() if name not in begun)
        running, remaining = self._running(), self.stage_seconds_left()
        if running is not None and remaining is None:
            if running.name not in known:
                return None
            remaining = max(0.0, known[running.name] - running.seconds)
        return after * self._slowdown(known) + (remaining or 0.0)

    def _slowdown(self, estimate: Mapping[str, float]) -> float:
        """Ratio of actual to estimated time of the finished stages; 1 if unknown."""
        done = [
            stage
            for name, stage in self.stages.items()
            if stage.state == "done" and stage.steps and name in estimate
        ]
        estimated = sum(estimate[stage.name] for stage in done)
        actual = sum(stage.seconds for stage in done)
        return actual / estimated if estimated > 0 and actual > 0 else 1.0

    def _running(self) -> StageProgress | None:
        return next((stage for stage in self.stages.values() if stage.state == "running"), None)

    def _stage(self, name: str) -> StageProgress:
        """The stage of that name; unknown ones, as of a later version, are added."""
        return self.stages.setdefault(name, StageProgress(name))

    def _begin(self, event: StageStarted) -> None:
        stage = self._stage(event.stage)
        for earlier in takewhile(lambda other: other is not stage, self.stages.values()):
            # An earlier stage may lack its last event: it was copied from another run, or the
            # process was killed after its last checkpoint.
            earlier.state = "done"
        stage.state, stage.step, stage.steps = "running", event.step, event.steps

    def _step(self, event: StepDone) -> None:
        self._stage(event.stage).step = event.step
        losses = self.losses.setdefault(event.stage, {})
        for name, value in {**event.losses, "total": event.total}.items():
            losses.setdefault(name, Series()).add(event.step, value)
        if self._pace is None:
            # The pace is measured from the end of the first step, which includes warm-up costs.
            self._pace = _Pace(event.step, self._now, event.step, self._now)
        self._pace.last_step, self._pace.last_time = event.step, self._now

    def _pass_time(self, event: Event) -> None:
        """Add the time since the last event to the running stage."""
        previous, self._now = self._now, self._seconds(event)
        if isinstance(event, RunStarted | StageStarted | StageFinished):
            self._pace = None
        elif self.state == "running" and (running := self._running()) is not None:
            running.seconds += max(0.0, self._now - previous)

    def _seconds(self, event: Event) -> float:
        """Seconds of an event by the clock of its process; in older versions, by its time.

        No time passes until an event of another process, such as a window that reports that
        the run was killed.
        """
        if isinstance(event, RunStarted):
            self._has_clock = event.clock is not None
        if self._has_clock:
            return self._now if event.clock is None else event.clock
        try:
            return datetime.fromisoformat(event.time).timestamp()
        except ValueError:
            return self._now

    def _note(self, event: BatchSplit | Noted) -> None:
        sentence = event.sentence if isinstance(event, Noted) else describe_split(event)
        if sentence not in self.notes:
            self.notes.append(sentence)


def describe_split(event: BatchSplit) -> str:
    """Describe a split of a batch in one sentence."""
    return (
        f"Memory was full at step {event.step} of {event.stage}: its batch of {event.batch} "
        f"goes in {event.parts} parts, their gradients summed."
    )
