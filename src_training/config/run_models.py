"""The models of a finished run, and the verdict on its two students."""

from functools import lru_cache
from pathlib import Path
from typing import Any

from src_training.config.stages import STAGES, stage_name
from src_training.errors import InputError
from src_training.evaluation.verdict import Verdict, judge
from src_training.io.yaml_json import parse_json


def better_student(run: Path) -> Path:
    """Return the model file of the better student of a finished run.

    Without a verdict it is the distilled student.

    Raises
    ------
    InputError
        If the run has not finished.
    """
    distilled = run / "model.safetensors"
    if not distilled.is_file():
        raise InputError(f"{run}: there is no finished run; expected model.safetensors in it")
    verdict = run_verdict(run)
    if verdict is None or verdict.better == "distilled":
        return distilled
    baseline = with_former_name(run / "models", "baseline", ".safetensors")
    return baseline if baseline.is_file() else distilled


def run_verdict(run: Path) -> Verdict | None:
    """Tell which student of a finished run is better; None without a readable report.

    The gain is compared with that of the control at equal time, if its report is readable.
    """
    stamp, control = _stamp(run), _stamp(control_run(run))
    return None if stamp is None else _verdict(run, stamp, control)


def control_run(run: Path) -> Path:
    """Directory of the control, whose student trains without a teacher for an equal time."""
    return run.with_name(f"{run.name}-equal-time")


def read_report(run: Path) -> dict[str, Any]:
    """Read the report: role -> outcome; OSError or ValueError if there is none."""
    content = parse_json(_report_file(run).read_text(encoding="utf-8"))
    return {stage_name(role): outcome for role, outcome in content.items()}


def with_former_name(folder: Path, name: str, suffix: str = "") -> Path:
    """Path of a name below a folder, or of its former name if only that exists."""
    path = folder / f"{name}{suffix}"
    former = STAGES[name].former_names if name in STAGES else ()
    if not path.exists():
        for each in former:
            if (folder / f"{each}{suffix}").exists():
                return folder / f"{each}{suffix}"
    return path


_Stamp = tuple[int, int]


def _report_file(run: Path) -> Path:
    return run / "report" / "report.json"


def _stamp(run: Path) -> _Stamp | None:
    """Modification time and size of a report; None if there is no report."""
    try:
        status = _report_file(run).stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


_UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)


@lru_cache(maxsize=512)
def _verdict(run: Path, _stamp: _Stamp, control: _Stamp | None) -> Verdict | None:
    try:
        report = read_report(run)
        verdict = judge(report)
    except _UNREADABLE:
        return None
    try:
        return judge(report, read_report(control_run(run))) if control else verdict
    except _UNREADABLE:  # a broken control does not hide the verdict on the students
        return verdict
