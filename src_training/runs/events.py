"""What a run says while it works: typed events, one JSON line each.

``docs/events.md`` writes the format down. It is versioned by `VERSION`: a later
version may add kinds and fields, and a reader passes over those it does not know.
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


StageName = Annotated[str, AfterValidator(stage_name)]
"""Name of a stage; the former names of stages are read as today's."""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class _Event(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, ser_json_inf_nan="constants")
    time: str = Field(default_factory=_now)


class RunStarted(_Event):
    """A process began, or resumed, the run.

    Attributes
    ----------
    version
        Of the format, `VERSION`.
    process, processes
        Id of the first process in the system, and how many there are.
    device
        As torch names it, such as ``cuda:0``.
    precision
        See `training_precision`.
    stages
        Names of all stages, in their order.
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
        Its name.
    step, steps
        Steps done, more than 0 where it resumes, and steps in all.
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
        Which, of which stage; the first is 1.
    total
        The weighted sum of the losses, finite.
    losses
        Name -> value, unweighted, of the whole batch.
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
        After which step of which stage.
    score
        More is better: mean Dice, from 0 to 1, of stages that are scored by it
        (`StageSpec.scored_by`); minus the total loss of the others. Minus
        infinity where it is not finite.
    best
        Whether the checkpoint was kept as the best so far.
    """

    kind: Literal["validated"] = "validated"
    stage: StageName
    step: int
    score: float
    best: bool


class Measured(_Event):
    """FSD between the source and test domains, by the student's own vectors.

    Attributes
    ----------
    stage, step
        After which step of which stage.
    fsd
        Test domain -> FSD on at most 32 patches of either side. Domains that
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
        By the network of which stage, after which step.
    file
        Of the labels (H, W) uint8; a path below the run's directory.
    """

    kind: Literal["previewed"] = "previewed"
    stage: StageName
    step: int
    file: str


class BatchSplit(_Event):
    """Memory was full: from this step on, a batch goes in parts, their gradients summed.

    Attributes
    ----------
    stage, step
        In which step of which stage; the first is 1.
    batch
        Patches of a step, over all processes.
    parts
        In how many parts each process takes its share of them.
    """

    kind: Literal["batch_split"] = "batch_split"
    stage: StageName
    step: int
    batch: int
    parts: int


class MemoryUsed(_Event):
    """Memory that the first process holds.

    Attributes
    ----------
    host
        Bytes of the computer's memory.
    device
        Bytes that torch has taken from the device; 0 on the CPU.
    """

    kind: Literal["memory_used"] = "memory_used"
    host: int
    device: int


class Noted(_Event):
    """Something a person should know; the run goes on.

    Attributes
    ----------
    stage, step
        After which step of which stage; 0 before the first.
    sentence
        In words.
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
        Its name.
    score
        The best, see `Validated`.
    seconds
        By the clock, those before it was resumed included.
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
        File of the distilled student, below the run's directory.
    seconds
        By the clock, since the last `RunStarted` alone.
    """

    kind: Literal["run_finished"] = "run_finished"
    model: str
    seconds: float


class RunStopped(_Event):
    """The run was interrupted, or failed; it can be resumed.

    Attributes
    ----------
    reason
        ``stopped on request``, or the error's type and message.
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
    """Appends events to ``events.jsonl``; each line is complete or absent for a reader.

    Parameters
    ----------
    path
        The file; made if missing. A torn last line of a killed process is
        closed, so that it cannot swallow the next event.

    Raises
    ------
    OSError
        If the file cannot be opened or written.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        torn = path.exists() and path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")
        self._path = path
        # Unbuffered: what a full disk refused is not tried again at the close.
        self._file = path.open("ab", buffering=0)
        if torn:
            self._append(b"\n")

    def write(self, event: Event) -> None:
        """Append one event; raises OSError, naming the file, if it cannot be written."""
        self._append(event.model_dump_json().encode() + b"\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _append(self, line: bytes) -> None:
        end = self._file.seek(0, os.SEEK_END)
        written = 0
        with naming(self._path):
            try:
                # A disk that fills takes a part of a line before it takes nothing.
                while written < len(line):
                    written += self._file.write(line[written:])
            except OSError:
                self._file.truncate(end)
                raise


def read_event(line: bytes) -> Event | None:
    """The event of a line; None where it is torn, or of a kind that is not known."""
    try:
        return _event.validate_json(line)
    except ValidationError:
        return None


def iter_events(path: Path) -> Iterator[Event]:
    """The events of a run, in order; none without the file, torn lines and unknown kinds left out.

    Parameters
    ----------
    path
        Its ``events.jsonl``.
    """
    if not path.exists():
        return
    with path.open("rb") as lines:
        # By bytes: a torn line may end within a character.
        for line in lines:
            if (event := read_event(line.rstrip(b"\n"))) is not None:
                yield event


def read_events(path: Path) -> list[Event]:
    """All events of a run; see `iter_events`."""
    return list(iter_events(path))
