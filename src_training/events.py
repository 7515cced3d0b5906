"""What a run says while it works: typed events, one JSON line each.

``docs/events.md`` writes the format down. It is versioned by `VERSION`: a later
version may add kinds and fields, and a reader passes over those it does not know.
"""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from src_training.atomic import naming

VERSION = 2


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class _Event(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, ser_json_inf_nan="constants")
    time: str = Field(default_factory=_now)


class RunStarted(_Event):
    """A process began, or resumed, the run; `process` is the first of `processes`."""

    kind: Literal["run_started"] = "run_started"
    version: int = VERSION
    process: int = Field(default_factory=os.getpid)
    processes: int = 1
    device: str
    precision: str
    stages: list[str]


class StageStarted(_Event):
    """A stage begins at `step` of `steps`; `step` > 0 where it resumes."""

    kind: Literal["stage_started"] = "stage_started"
    stage: str
    step: int
    steps: int


class StepDone(_Event):
    """One optimisation step: losses by name, unweighted, and their weighted sum."""

    kind: Literal["step_done"] = "step_done"
    stage: str
    step: int
    total: float
    losses: dict[str, float]


class Validated(_Event):
    """Scores on the source's validation split; `best` where the checkpoint was kept."""

    kind: Literal["validated"] = "validated"
    stage: str
    step: int
    score: float
    best: bool


class Measured(_Event):
    """FSD between the source and each test domain, by the student's own vectors."""

    kind: Literal["measured"] = "measured"
    stage: str
    step: int
    fsd: dict[str, float]


class Previewed(_Event):
    """The preview's image was segmented; `file` holds the labels, below the run's directory."""

    kind: Literal["previewed"] = "previewed"
    stage: str
    step: int
    file: str


class BatchSplit(_Event):
    """Memory was full: from this step on, `batch` goes in `parts`, their gradients summed."""

    kind: Literal["batch_split"] = "batch_split"
    stage: str
    step: int
    batch: int
    parts: int


class MemoryUsed(_Event):
    """Bytes that the first process holds of the computer's memory and of its device's."""

    kind: Literal["memory_used"] = "memory_used"
    host: int
    device: int


class Noted(_Event):
    """Something a person should know, in one sentence; the run goes on."""

    kind: Literal["noted"] = "noted"
    stage: str
    step: int
    sentence: str


class StageFinished(_Event):
    """A stage is done; its best checkpoint is on disk."""

    kind: Literal["stage_finished"] = "stage_finished"
    stage: str
    score: float
    seconds: float


class RunFinished(_Event):
    """The model and the report are written."""

    kind: Literal["run_finished"] = "run_finished"
    model: str
    seconds: float


class RunStopped(_Event):
    """The run was interrupted, or failed; it can be resumed."""

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
        with naming(self._path):
            self._file.write(line)


def read_event(line: bytes) -> Event | None:
    """The event of a line; None where it is torn, or of a kind that is not known."""
    try:
        return _event.validate_json(line)
    except ValidationError:
        return None


def read_events(path: Path) -> list[Event]:
    """All events of a run; torn lines and unknown kinds are left out."""
    # By bytes: a torn line may end within a character.
    lines = path.read_bytes().split(b"\n") if path.exists() else ()
    return [event for event in map(read_event, lines) if event is not None]
