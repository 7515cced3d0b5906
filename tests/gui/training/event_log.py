"""Synthetic event logs of runs, as a real run writes them."""

import json
from pathlib import Path

import yaml

from src_training.config.stages import REQUIRED_STAGES
from src_training.runs.directory import RunDirectory
from src_training.runs.events import (
    Event,
    EventLog,
    Measured,
    RunFinished,
    RunStarted,
    StageFinished,
    StageStarted,
    StepDone,
    Validated,
)

NO_PROCESS = 2**22 + 1
"""Larger than any process id."""


def start_events() -> list[Event]:
    return [
        RunStarted(
            device="cpu", precision="32-true", stages=list(REQUIRED_STAGES), process=NO_PROCESS
        ),
    ]


def stage_events(
    name: str, steps: int = 4, to: int | None = None, score: float = 0.5
) -> list[Event]:
    """Events of a stage; it is unfinished if it ends at step `to`."""
    last = steps if to is None else to
    events: list[Event] = [StageStarted(stage=name, step=0, steps=steps)]
    for step in range(1, last + 1):
        losses = {"segmentation/ce": 1 / step, "segmentation/dice": 0.5 / step}
        events.append(StepDone(stage=name, step=step, total=1.5 / step, losses=losses))
    if last == steps:
        events.append(Validated(stage=name, step=steps, score=score, best=True))
        events.append(StageFinished(stage=name, score=score, seconds=65.0))
    return events


def run_events() -> list[Event]:
    events = start_events()
    for name in REQUIRED_STAGES:
        events += stage_events(name)
    events.insert(-1, Measured(stage="distil", step=4, fsd={"DRIVE": 12.0}))
    return [*events, RunFinished(model="model.safetensors", seconds=520.0)]


def write_run(path: Path, events: list[Event], name: str = "recorded") -> Path:
    """A run directory with a recipe of that name and these events."""
    path.mkdir(parents=True, exist_ok=True)
    RunDirectory(path).recipe.write_text(yaml.safe_dump({"name": name}))
    append_events(path, events)
    return path


def append_events(path: Path, events: list[Event]) -> None:
    log = EventLog(RunDirectory(path).events)
    for event in events:
        log.write(event)
    log.close()


DICE = {"teacher": 0.8, "baseline": 0.7, "distilled": 0.75}


def write_report(path: Path, dice: dict[str, float] = DICE, **costs: object) -> None:
    """A report of three models on a domain with masks and one without."""
    distance = {"value": 3.25, "low": 0.0, "high": 6.5, "n_a": 8, "n_b": 8}
    report = {
        role: {
            "parameters": 1234567,
            "scores": {
                "DRIVE": {"mean": {"dice": mean}, "interval": {"dice": [mean - 0.01, mean + 0.01]}}
            },
            "fsd": {"DRIVE": distance, "bare": distance},
            **costs,
        }
        for role, mean in dice.items()
    }
    file = RunDirectory(path).report / "report.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(report))
