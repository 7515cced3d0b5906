"""State of the Runs page and texts derived from it; no Qt."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from psygnal import SignalGroupDescriptor

from src_training.config.run_models import run_verdict
from src_training.evaluation.verdict import Verdict
from src_training.formatting import format_bytes
from src_training.runs.directory import RunDirectory
from src_training.runs.events import ON_REQUEST
from src_training.runs.history import RunHistory

if TYPE_CHECKING:
    from src_training.runs.state import RunState

Phase = Literal["none", "loading", "starting", "resuming", "running", "stopping", "ended"]

_PHASES: dict[Phase, str] = {
    "none": "",
    "loading": "Loading run…",
    "starting": "Starting…",
    "resuming": "Resuming…",
    "stopping": "Stopping…",
}
_PRECISIONS = {
    "32-true": "float32",
    "16-mixed": "float16 (mixed precision)",
    "bf16-mixed": "bfloat16 (mixed precision)",
}


@dataclass
class MonitorState:
    """The displayed run.

    Attributes
    ----------
    run
        Directory of the run; None before one is chosen.
    phase
        Phase of the run, as far as this window knows.
    history
        History of the run's events.
    updates
        Counter of updates of the history, whose event triggers a redraw.
    outcome
        State at the end of the run; None while it is active or not known to have ended.
    verdict
        Comparison of its students, once it has finished.
    message
        Result of an export, or an error; cleared by the next change.
    estimate
        Estimated seconds of each stage; None if there was no estimate.
    """

    events: ClassVar[SignalGroupDescriptor] = SignalGroupDescriptor()

    run: Path | None = None
    phase: Phase = "none"
    history: RunHistory = field(default_factory=RunHistory, compare=False)
    updates: int = 0
    outcome: "RunState | None" = None
    verdict: Verdict | None = None
    message: str = ""
    estimate: Mapping[str, float] | None = None

    def open(self, run: Path, history: RunHistory) -> None:
        """Show another run."""
        self.message, self.outcome, self.verdict = "", None, None
        self.history, self.estimate = history, read_estimate(run)
        self.phase = "loading" if RunDirectory(run).events.exists() else "starting"
        self.run = run
        self.updates += 1

    def close(self) -> None:
        """Show no run."""
        self.phase, self.outcome, self.verdict, self.run = "none", None, None, None

    def advance(self, _history: RunHistory | None = None) -> None:
        """Update after new events in the history."""
        if self.phase != "stopping" and self.history.state == "running":
            self.outcome, self.phase, self.message = None, "running", ""
        self.updates += 1

    def stop(self) -> None:
        """Update after a request to stop the run."""
        self.phase, self.message = "stopping", ""

    def resume(self) -> None:
        """Update after the run was resumed."""
        self.outcome, self.verdict, self.message = None, None, ""
        self.phase = "resuming"

    def finish(self, outcome: "RunState") -> None:
        """Update after the end of the run."""
        self.verdict = run_verdict(outcome.path) if outcome.state == "finished" else None
        self.outcome, self.message, self.phase = outcome, "", "ended"

    @property
    def can_stop(self) -> bool:
        """Whether the run can be stopped."""
        return self.phase in ("loading", "starting", "resuming", "running")

    @property
    def can_resume(self) -> bool:
        """Whether the run ended before it was finished."""
        return self.outcome is not None and self.outcome.state in ("stopped", "died")

    @property
    def can_preview(self) -> bool:
        """Whether an image for the live preview can be chosen."""
        return self.phase != "ended"

    @property
    def status(self) -> str:
        """Status text: device or outcome of the run, and its notes."""
        if self.message:
            return self.message
        if self.phase == "ended":
            lines = [outcome_text(self.outcome, self.verdict)]
            if self.verdict is not None:  # the Result page has the notes below its table
                return lines[0]
        elif self.phase == "running":
            lines = [device_text(self.history)]
        else:
            return _PHASES[self.phase]
        return "\n".join([*lines, *(f"⚠ {note}" for note in self.history.notes)])


def outcome_text(outcome: "RunState | None", verdict: Verdict | None) -> str:
    """Message about the end of a run; for a finished one with the verdict."""
    if outcome is None:
        return ""
    reason = outcome.stop_reason or "no output"
    if outcome.state == "finished":
        if verdict is None:
            return "✓ Finished."
        failed = verdict.better == "baseline" and verdict.clear
        mark = "⚠" if failed or verdict.useless else "✓"
        return f"{mark} {verdict.headline}; {verdict.offered} is offered. See Result."
    stopped = "Stopped on request" if reason == ON_REQUEST else f"Stopped: {reason}"
    texts = {"stopped": stopped, "died": f"✕ Ended unexpectedly: {reason}"}
    return texts.get(outcome.state, f"✕ {reason}")


def device_text(history: RunHistory) -> str:
    """Device, precision and memory of an active run."""
    if not history.device:
        return "Reading images…"
    several = f", {history.processes} processes" if history.processes > 1 else ""
    precision = _PRECISIONS.get(history.precision, history.precision)
    parts = [f"Running on {history.device}{several} in {precision}"]
    if history.memory is not None:
        host, device = history.memory
        parts.append(f"memory {format_bytes(host)}")
        parts += [f"{format_bytes(device)} on the device"] if device else []
    return " · ".join(parts)


def read_estimate(run: Path) -> dict[str, float] | None:
    """Estimated seconds of each stage and of the report; None if there was no estimate."""
    try:
        content = json.loads(RunDirectory(run).estimate.read_text(encoding="utf-8"))
        parts = {**content["stage_seconds"], "report": content["scoring"]}
        return {name: float(seconds) for name, seconds in parts.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
