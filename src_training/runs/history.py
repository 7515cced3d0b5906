"""What a watcher knows of a run: its events read as they come, and what they add up to."""

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
"""What follows the last stage: calibration, thresholds and scores."""


class RunFollower:
    """Reads a run's events from where it left off.

    Parameters
    ----------
    folder
        The run's directory; need not be there yet.
    """

    def __init__(self, folder: Path) -> None:
        self._path = RunDirectory(folder).events
        self._read = 0

    def poll(self, limit: int = 500) -> list[Event]:
        """At most `limit` events that were written whole since the last call.

        Begins again where the file has become shorter; empty while it is missing.
        """
        events: list[Event] = []
        try:
            with self._path.open("rb") as file:
                if self._path.stat().st_size < self._read:
                    self._read = 0
                file.seek(self._read)
                while len(events) < limit and (line := file.readline()).endswith(b"\n"):
                    self._read += len(line)
                    if (event := read_event(line)) is not None:
                        events.append(event)
        except FileNotFoundError:
            self._read = 0
        return events


@dataclass
class StageProgress:
    """How far a stage is.

    Attributes
    ----------
    name
        One of `STAGES`, or of those that the run named.
    state
        ``waiting``, ``running`` (begun and not done, whether or not a process
        is at it) or ``done``.
    step, steps
        Steps done, and to do in all; 0 of 0 before it begins, and where the
        run took it over from another.
    seconds
        Spent on it, up to its last event.
    score
        The best on the source's validation split; None before the first.
    """

    name: str
    state: Literal["waiting", "running", "done"] = "waiting"
    step: int = 0
    steps: int = 0
    seconds: float = 0.0
    score: float | None = None


@dataclass
class Series:
    """Values by step; a step said again takes the place of all from it on.

    Attributes
    ----------
    steps
        Rising.
    values
        One for each.
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
    """How fast the running stage goes, in the process that is at it."""

    step: int
    time: float
    last_step: int
    last_time: float

    def seconds_a_step(self) -> float | None:
        done = self.last_step - self.step
        return (self.last_time - self.time) / done if done > 0 else None


class RunHistory:
    """Everything that a run's events add up to.

    Attributes
    ----------
    stages
        Every stage by name, in order.
    losses
        Stage -> loss -> values, unweighted; ``total`` is their weighted sum.
    scores
        Stage -> scores on the source's validation split.
    fsd
        Test domain -> distance to the source, by the steps of ``distil``.
    device, precision, process, processes
        What the last process to begin said; empty and 0 before.
    memory
        Bytes in use, of the computer and of the device; None before the first.
    preview
        Stage, step and file (below the run's directory) of the last preview.
    notes
        What a person should know, a sentence each.
    intervals
        Stage -> seconds from one step to the next, validations left out.
    state
        ``waiting`` before the first event, then ``running``, ``finished`` or
        ``stopped`` as the run said itself; see `run_state` for one that died.
    stop_reason
        Why it stopped.
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
        self._now = 0.0
        self._last_step: float | None = None
        self._pace: _Pace | None = None

    def step_seconds(self, stage: str) -> float | None:
        """Median seconds from one step of a stage to the next; None where none was timed."""
        intervals = self.intervals.get(stage)
        return median(intervals) if intervals else None

    def read(self, path: Path) -> Event | None:
        """Take every event of an ``events.jsonl``; the last of them, None where there is none."""
        event = None
        for event in iter_events(path):
            self.take(event)
        return event

    def take(self, event: Event) -> None:
        """Take the next event."""
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
                self.stages = {name: self._stage(name) for name in (*event.stages, *self.stages)}
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
        """The last stage begun, its steps done, and its steps in all.

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
        """Seconds that the running stage will take yet; None before its second step."""
        running = self._running()
        pace = self._pace.seconds_a_step() if self._pace is not None else None
        if running is None or pace is None:
            return None
        return pace * (running.steps - running.step)

    def seconds_left(self, estimate: Mapping[str, float] | None = None) -> float | None:
        """Seconds that the whole run will take yet.

        Parameters
        ----------
        estimate
            Seconds that each part of the run was thought to take: stages by
            name, and whatever follows them. Those that wait are taken to be
            off by as much as those that are done.

        Returns
        -------
        float or None
            None where the estimate lacks a stage that waits, or, without an
            estimate, where a stage waits at all.
        """
        if self.state == "finished":
            return 0.0
        known = estimate or {}
        begun = {name: stage for name, stage in self.stages.items() if stage.state != "waiting"}
        waiting = [name for name in self.stages if name not in begun]
        if any(name not in known for name in waiting):
            return None
        after = sum(seconds for name, seconds in known.items() if name not in begun)
        running, left = self._running(), self.stage_seconds_left()
        if running is not None and left is None:
            if running.name not in known:
                return None
            left = max(0.0, known[running.name] - running.seconds)
        return after * self._slowness(known) + (left or 0.0)

    def _slowness(self, estimate: Mapping[str, float]) -> float:
        """How many times longer the stages that are done took than was thought."""
        done = [
            stage
            for name, stage in self.stages.items()
            if stage.state == "done" and stage.steps and name in estimate
        ]
        thought = sum(estimate[stage.name] for stage in done)
        took = sum(stage.seconds for stage in done)
        return took / thought if thought > 0 and took > 0 else 1.0

    def _running(self) -> StageProgress | None:
        return next((stage for stage in self.stages.values() if stage.state == "running"), None)

    def _stage(self, name: str) -> StageProgress:
        """The stage of that name; one of a later version joins the others."""
        return self.stages.setdefault(name, StageProgress(name))

    def _begin(self, event: StageStarted) -> None:
        stage = self._stage(event.stage)
        for earlier in takewhile(lambda other: other is not stage, self.stages.values()):
            # What comes before is there: taken over from another run, or killed between its
            # last checkpoint and its last word.
            earlier.state = "done"
        stage.state, stage.step, stage.steps = "running", event.step, event.steps

    def _step(self, event: StepDone) -> None:
        self._stage(event.stage).step = event.step
        losses = self.losses.setdefault(event.stage, {})
        for name, value in {**event.losses, "total": event.total}.items():
            losses.setdefault(name, Series()).add(event.step, value)
        if self._pace is None:
            # The first step also pays for what is set up once.
            self._pace = _Pace(event.step, self._now, event.step, self._now)
        self._pace.last_step, self._pace.last_time = event.step, self._now

    def _pass_time(self, event: Event) -> None:
        """Give the time since the last event to the stage that runs."""
        former, self._now = self._now, _seconds(event.time, self._now)
        if isinstance(event, RunStarted | StageStarted | StageFinished):
            self._pace = None
        elif self.state == "running" and (running := self._running()) is not None:
            running.seconds += max(0.0, self._now - former)

    def _note(self, event: BatchSplit | Noted) -> None:
        sentence = event.sentence if isinstance(event, Noted) else split_in_words(event)
        if sentence not in self.notes:
            self.notes.append(sentence)


def split_in_words(event: BatchSplit) -> str:
    """One sentence on a batch that goes in parts."""
    return (
        f"Memory was full at step {event.step} of {event.stage}: its batch of {event.batch} "
        f"goes in {event.parts} parts, their gradients summed."
    )


def _seconds(time: str, otherwise: float) -> float:
    """Seconds since the epoch of an event's time."""
    try:
        return datetime.fromisoformat(time).timestamp()
    except ValueError:
        return otherwise
