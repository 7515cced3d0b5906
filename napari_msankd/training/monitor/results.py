"""The models of a finished run and their scores, from its report."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from src_training.errors import InputError
from src_training.io.tables import Cell, csv_table
from src_training.runs.directory import ROLES, RunDirectory, roles_of


@dataclass(frozen=True)
class Score:
    """A score and its 95 % interval; `format` puts the interval on a second line.

    Attributes
    ----------
    value
        The score; None if undefined.
    low, high
        Bounds of the 95 % interval; None for a single image.
    """

    value: float | None
    low: float | None
    high: float | None

    def __format__(self, form: str) -> str:
        if self.value is None:
            return "—"
        if self.low is None or self.high is None:
            return f"{self.value:{form}}\none patient"
        return f"{self.value:{form}}\n{self.low:{form}}\N{EN DASH}{self.high:{form}}"


@dataclass(frozen=True)
class ModelResult:
    """Scores and costs of one model of a run.

    Attributes
    ----------
    role
        One of `src_training.runs.directory.ROLES`.
    file
        Model file.
    parameters
        Number of parameters of the network; 0 if unknown.
    bytes
        Size of the model file; None if it is missing.
    seconds
        Median inference time per image; None in reports that did not measure it.
    dice, fsd
        Domain -> score: the validation split, then the test domains. Domains without
        masks have no Dice, and those with too few patches no FSD.
    kinds
        Domain -> the model's exposure to it, ``unseen`` or ``adapted``; see `DomainKind`.
    taught
        Whether a teacher was used; not for the distilled student of a control.
    training_seconds
        Duration of the stage that trained it; None if not measured.
    usable
        Whether its file is a model of this package; not for a teacher in another format.
    """

    role: str
    file: Path
    parameters: int
    bytes: int | None
    seconds: float | None
    dice: dict[str, Score]
    fsd: dict[str, Score]
    kinds: dict[str, str] = field(default_factory=dict)
    taught: bool = True
    training_seconds: float | None = None
    usable: bool = True


def read_results(run: Path) -> list[ModelResult]:
    """The models of a finished run: teacher, student alone, student distilled.

    Of a run without distillation it is the student.

    Raises
    ------
    InputError
        If the run has no report, or the report is invalid.
    """
    folder = RunDirectory(run)
    file = folder.report / "report.json"
    try:
        report = folder.read_report()
        roles = roles_of(distils="student" not in report)
        return [_result(role, report[role], folder) for role in roles]
    except FileNotFoundError:
        raise InputError(f"{file}: there is no such file; expected a finished run") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{file}: cannot be read; expected the report of a run") from None


def as_csv(results: list[ModelResult]) -> str:
    """CSV with a row for each model and domain, unrounded."""
    rows = list[list[Cell]]()
    measures = [f"{name}{end}" for name in ("dice", "fsd") for end in ("", "_low", "_high")]
    costs = ["parameters", "bytes", "seconds_per_image", "training_seconds"]
    header = ["model", "domain", "kind", *measures, *costs]
    for result in results:
        for domain in domains(results):
            dice, fsd = result.dice.get(domain), result.fsd.get(domain)
            numbers: list[Cell] = [*_numbers(dice), *_numbers(fsd)]
            numbers += [result.parameters, result.bytes, result.seconds, result.training_seconds]
            kind = result.kinds.get(domain, "")
            rows.append([ROLES[result.role], domain, kind, *numbers])
    return csv_table(header, rows, digits=None)


def domains(results: list[ModelResult]) -> list[str]:
    """The validation split and the test domains, in the order of the report."""
    return list(dict.fromkeys(name for result in results for name in (*result.dice, *result.fsd)))


def _result(role: str, report: dict[str, Any], folder: RunDirectory) -> ModelResult:
    file = folder.role_model(role)
    size = report.get("bytes", file.stat().st_size if file.exists() else None)
    return ModelResult(
        role=role,
        file=folder.offered_model(role),
        parameters=report["parameters"],
        bytes=size,
        seconds=report.get("seconds_per_image"),
        dice={
            domain: Score(scores["mean"]["dice"], *scores["interval"]["dice"])
            for domain, scores in report["scores"].items()
        },
        fsd={
            domain: Score(fsd["value"], fsd["low"], fsd["high"])
            for domain, fsd in report["fsd"].items()
        },
        kinds=report.get("domain_kinds", {}),
        taught=report.get("taught", role == "distilled"),
        training_seconds=_training_seconds(report),
        usable=role != "teacher" or not (folder.start / "teacher.json").exists(),
    )


def _training_seconds(report: dict[str, Any]) -> float | None:
    steps, step_seconds = report.get("steps"), report.get("step_seconds")
    return None if steps is None or step_seconds is None else steps * step_seconds


def _numbers(score: Score | None) -> tuple[float | None, ...]:
    return (None,) * 3 if score is None else (score.value, score.low, score.high)
