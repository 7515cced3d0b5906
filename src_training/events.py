"""What a run says while it works: typed events, one JSON line each.

The format is versioned by `VERSION`; a reader skips kinds it does not know.
"""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from src_training.atomic import naming

VERSION = 1


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class _Event(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, ser_json_inf_nan="constants")
    time: str = Field(default_factory=_now)


class RunStarted(_Event):
    """A process began, or resumed, the run."""

    kind: Literal["run_started"] = "run_started"
    version: int = VERSION
    process: int = Field(default_factory=os.getpid)
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


Event = RunStarted | StageStarted | StepDone | Validated | StageFinished | RunFinished | RunStopped
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


def read_events(path: Path) -> list[Event]:
    """All events of a run; torn lines and unknown kinds are left out."""
    events = []
    # By bytes: a torn line may end within a character.
    for line in path.read_bytes().split(b"\n") if path.exists() else ():
        try:
            events.append(_event.validate_json(line))
        except ValidationError:
            continue
    return events
