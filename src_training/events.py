"""What a run says while it works: typed events, one JSON line each.

The format is versioned by `VERSION`; a reader skips kinds it does not know.
"""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

VERSION = 1


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class _Event(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)
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
        self._file = path.open("a", encoding="utf-8")
        if torn:
            self._file.write("\n")

    def write(self, event: Event) -> None:
        """Append one event."""
        self._file.write(event.model_dump_json() + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_events(path: Path) -> list[Event]:
    """All events of a run; torn lines and unknown kinds are left out."""
    events = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            events.append(_event.validate_json(line))
        except ValidationError:
            continue
    return events
