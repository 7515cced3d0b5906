"""What the Runs page knows of the run it shows, and what follows from it; no Qt."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from psygnal import SignalGroupDescriptor

from napari_msankd.formatting import format_bytes
from src_training.evaluation.verdict import Verdict
from src_training.runs.directory import RunDirectory
from src_training.runs.history import RunHistory
from src_training.runs.library import run_verdict

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
    """The run that is shown.

    Attributes
    ----------
    run
        Its directory; None before one is chosen.
    phase
        What is going on with it, as far as this window knows.
    history
        What it said so far.
    updates
        How often the history grew; a listener redraws when it changes.
    outcome
        How it ended; None while it runs, or is not known to have ended.
    verdict
        Which of its students is better, once it has finished.
    message
        What an export or a failure came to; empty once something else happens.
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
        """Take note that the history grew."""
        if self.phase != "stopping" and self.history.state == "running":
            self.outcome, self.phase, self.message = None, "running", ""
        self.updates += 1

    def stop(self) -> None:
        """Take note that the run was told to stop."""
        self.phase, self.message = "stopping", ""

    def resume(self) -> None:
        """Take note that the run was begun again."""
        self.outcome, self.verdict, self.message = None, None, ""
        self.phase = "resuming"

    def finish(self, outcome: "RunState") -> None:
        """Take note of how the run ended."""
        self.verdict = run_verdict(outcome.path) if outcome.state == "finished" else None
        self.outcome, self.message, self.phase = outcome, "", "ended"

    @property
    def can_stop(self) -> bool:
        """Whether the run can be told to stop."""
        return self.phase in ("loading", "starting", "resuming", "running")

    @property
    def can_resume(self) -> bool:
        """Whether the run ended before its end."""
        return self.outcome is not None and self.outcome.state in ("stopped", "died")

    @property
    def can_preview(self) -> bool:
        """Whether an image may be chosen to be segmented as the run learns."""
        return self.phase != "ended"

    @property
    def status(self) -> str:
        """Where the run is at work, or how it ended, and what should be known of it."""
        if self.message:
            return self.message
        if self.phase == "ended":
            lines = [outcome_text(self.outcome, self.verdict)]
        elif self.phase == "running":
            lines = [device_text(self.history)]
        else:
            return _PHASES[self.phase]
        return "\n".join([*lines, *(f"⚠ {note}" for note in self.history.notes)])


def outcome_text(outcome: "RunState | None", verdict: Verdict | None) -> str:
    """How a run ended, in a sentence; a finished one begins with the verdict."""
    if outcome is None:
        return ""
    reason = outcome.stop_reason or "no output"
    if outcome.state == "finished":
        if verdict is None:
            return "✓ Finished."
        failed = verdict.better == "baseline" and verdict.clear
        mark = "⚠" if failed or verdict.useless else "✓"
        return f"{mark} {verdict.headline}; {verdict.offered} is offered. See Result."
    texts = {"stopped": f"Stopped: {reason}", "died": f"✕ Ended unexpectedly: {reason}"}
    return texts.get(outcome.state, f"✕ {reason}")


def device_text(history: RunHistory) -> str:
    """Device, precision and memory of a run that is going on."""
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
    """Estimated seconds of each stage and of the report; None if nothing was estimated."""
    try:
        content = json.loads(RunDirectory(run).estimate.read_text(encoding="utf-8"))
        parts = {**content["stage_seconds"], "report": content["scoring"]}
        return {name: float(seconds) for name, seconds in parts.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
