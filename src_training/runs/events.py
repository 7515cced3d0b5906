"""The events of a run: typed models, one JSON line each.

``docs/events.md`` documents the format. `VERSION` is its version: a later
version may add kinds and fields, and readers ignore those that they do not know.
"""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)

from src_training.config.stages import stage_name
from src_training.io.atomic import naming

VERSION = 3

ON_REQUEST = "stopped on request"
"""Reason of a `RunStopped` that the user asked for."""


StageName = Annotated[str, AfterValidator(stage_name)]
"""Name of a stage; former names are converted to current ones."""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class _Event(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, ser_json_inf_nan="constants")
    time: str = Field(default_factory=_now)
    clock: float | None = None  # seconds of the process, those of a sleeping machine left out


class RunStarted(_Event):
    """A process began or resumed the run.

    Attributes
    ----------
    version
        Version of the format; see `VERSION`.
    process, processes
        Process id of rank 0, and number of processes.
    device
        Name of the device in torch, such as ``cuda:0``.
    precision
        See `training_precision`.
    stages
        Names of all stages, in order.
    classes
        Names of the classes, background first; empty before version 3.
    """

    kind: Literal["run_started"] = "run_started"
    version: int = VERSION
    process: int = Field(default_factory=os.getpid)
    processes: int = 1
    device: str
    precision: str
    stages: list[StageName]
    classes: list[str] = []


class StageStarted(_Event):
    """A stage begins.

    Attributes
    ----------
    stage
        Name of the stage.
    step, steps
        Number of steps done (above 0 if the stage is resumed), and number of all steps.
    """

    kind: Literal["stage_started"] = "stage_started"
    stage: StageName
    step: int
    steps: int


class StepDone(_Event):
    """One optimisation step is done.

    Attributes
    ----------
    stage, step
        Stage, and number of the step from 1.
    total
        Weighted sum of the losses, finite.
    losses
        Loss name -> unweighted value of the whole batch.
    """

    kind: Literal["step_done"] = "step_done"
    stage: StageName
    step: int
    total: float
    losses: dict[str, float]


class Validated(_Event):
    """A stage was scored on the source's validation split.

    Attributes
    ----------
    stage, step
        Stage, and number of steps done.
    score
        Mean Dice from 0 to 1, or minus the total loss; see `StageSpec.scored_by`. Higher is
        better. Minus infinity if the value is not finite.
    best
        Whether this is the best score so far, whose checkpoint is saved.
    """

    kind: Literal["validated"] = "validated"
    stage: StageName
    step: int
    score: float
    best: bool


class Measured(_Event):
    """FSD between the source and each test domain, by the student's vectors.

    Attributes
    ----------
    stage, step
        Stage, and number of steps done.
    fsd
        Test domain -> FSD on at most 32 patches of each side. Domains that
        cannot be read, or have fewer than two patches, are missing.
    """

    kind: Literal["measured"] = "measured"
    stage: StageName
    step: int
    fsd: dict[str, float]


class Previewed(_Event):
    """The preview's image was segmented.

    Attributes
    ----------
    stage, step
        Stage whose network segmented the image, and number of steps done.
    file
        File of the labels (H, W) uint8, relative to the run's directory.
    """

    kind: Literal["previewed"] = "previewed"
    stage: StageName
    step: int
    file: str


class BatchSplit(_Event):
    """Memory was full: from this step on, gradients are accumulated over parts of a batch.

    Attributes
    ----------
    stage, step
        Stage, and number of the step from 1.
    batch
        Batch size over all processes.
    parts
        Number of parts that each process splits its shard into.
    """

    kind: Literal["batch_split"] = "batch_split"
    stage: StageName
    step: int
    batch: int
    parts: int


class MemoryUsed(_Event):
    """Memory that the process of rank 0 uses.

    Attributes
    ----------
    host
        Resident memory in bytes.
    device
        Bytes that torch has reserved on the device; 0 on the CPU.
    """

    kind: Literal["memory_used"] = "memory_used"
    host: int
    device: int


class Noted(_Event):
    """A note for the user.

    Attributes
    ----------
    stage, step
        Stage, and number of steps done.
    sentence
        Text of the note.
    """

    kind: Literal["noted"] = "noted"
    stage: StageName
    step: int
    sentence: str


class StageFinished(_Event):
    """A stage is done; its best checkpoint is on disk.

    Attributes
    ----------
    stage
        Name of the stage.
    score
        Best score; see `Validated`.
    seconds
        Wall-clock time, including that before the stage was resumed.
    """

    kind: Literal["stage_finished"] = "stage_finished"
    stage: StageName
    score: float
    seconds: float


class RunFinished(_Event):
    """The model and the report are written.

    Attributes
    ----------
    model
        Model file of the student, relative to the run's directory.
    seconds
        Wall-clock time since the last `RunStarted`.
    """

    kind: Literal["run_finished"] = "run_finished"
    model: str
    seconds: float


class RunStopped(_Event):
    """The run was interrupted, or failed; it can be resumed.

    Attributes
    ----------
    reason
        `ON_REQUEST`, or type and message of the error.
    """

    kind: Literal["run_stopped"] = "run_stopped"
    reason: str


Event = (
    RunStarted
    | StageStarted
    | StepDone
    | Validated
    | Measured
    | Previewed
    | BatchSplit
    | MemoryUsed
    | Noted
    | StageFinished
    | RunFinished
    | RunStopped
)
_event: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="kind")])


class EventLog:
    """Appends events to ``events.jsonl``, without ever leaving a partial line.

    Parameters
    ----------
    path
        The file; created if missing. If a killed process left a partial last line, a line
        break is added, so that the next event starts on its own line.

    Raises
    ------
    OSError
        If the file cannot be opened or written.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.exists() and path.read_bytes()[-1:] not in (b"", b"\n")
        self._path = path
        # A buffered file would try again at its close to write what a full disk has refused.
        self._file = path.open("ab", buffering=0)
        if partial:
            self._append(b"\n")

    def write(self, event: Event) -> None:
        """Append one event; raise OSError with the file's name if it cannot be written."""
        self._append(event.model_dump_json().encode() + b"\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _append(self, line: bytes) -> None:
        end = self._file.seek(0, os.SEEK_END)
        written = 0
        with naming(self._path):
            try:
                # When the disk becomes full, `write` first writes a part of the line, then raises.
                while written < len(line):
                    written += self._file.write(line[written:])
            except OSError:
                self._file.truncate(end)
                raise


def read_event(line: bytes) -> Event | None:
    """Parse the event of a line; None if it is partial, has no time, or its kind is unknown."""
    try:
        event = _event.validate_json(line)
    except ValidationError:
        return None
    return event if "time" in event.model_fields_set else None  # by default it is now


def iter_events(path: Path) -> Iterator[Event]:
    """Iterate over the events of a run, in order.

    Partial lines and unknown kinds are left out; a missing file has no events.

    Parameters
    ----------
    path
        The run's ``events.jsonl``.
    """
    if not path.exists():
        return
    with path.open("rb") as lines:
        # A partial line may end within a UTF-8 character, so lines are read as bytes.
        for line in lines:
            if (event := read_event(line.rstrip(b"\n"))) is not None:
                yield event


def read_events(path: Path) -> list[Event]:
    """Read all events of a run; see `iter_events`."""
    return list(iter_events(path))
