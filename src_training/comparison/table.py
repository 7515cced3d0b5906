"""What the runs of a comparison tell: Dice on each domain against the cost of a step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from pydantic import BaseModel

from src_training.comparison.plan import ALONE, TEACHER, PlannedRun, finished_alike
from src_training.comparison.scores import (
    UNSEEN,
    Dice,
    counted,
    difference,
    estimates,
    means,
    pooled,
)
from src_training.config.recipe import Recipe
from src_training.evaluation.bootstrap import Estimate
from src_training.runs.directory import RunDirectory
from src_training.runs.events import Event, RunStarted, read_events
from src_training.runs.history import RunHistory


@dataclass(frozen=True)
class Row:
    """One model of a comparison.

    Attributes
    ----------
    label
        A recipe's or a method's name, `ALONE` or `TEACHER`.
    dice
        Domain, or `UNSEEN`, -> Dice.
    gain
        The same, -> Dice minus that of the student alone, image by image;
        empty for the student alone and the teacher.
    by_seed
        Seed -> domain -> mean Dice.
    step
        Seconds of a training step, median; NaN for the teacher.
    settings
        Dotted fields in which the contestants' recipes differ -> its value;
        empty for the student alone and the teacher.
    """

    label: str
    dice: dict[str, Estimate]
    gain: dict[str, Estimate]
    by_seed: dict[int, dict[str, float]]
    step: float
    settings: dict[str, object]


@dataclass(frozen=True)
class Comparison:
    """All rows, and what is to be known of them.

    Attributes
    ----------
    rows
        Teacher, student alone, then the contestants in their order.
    domains
        Columns; the last is `UNSEEN` where there are such domains.
    notes
        Sentences.
    """

    rows: list[Row]
    domains: list[str]
    notes: list[str]


def compared(plan: Sequence[PlannedRun]) -> Comparison:
    """Read the reports and events of finished runs.

    Parameters
    ----------
    plan
        See `planned_runs`; all of them done.

    Raises
    ------
    OSError, KeyError
        If a report is not there, or lacks a model.
    InputError
        If the recipe of a run beside them cannot be read.
    """
    by_label: dict[str, list[PlannedRun]] = {}
    for run in sorted(plan, key=lambda run: run.recipe.seed):
        by_label.setdefault(run.label, []).append(run)
    first = next(iter(by_label.values()))
    alone = _scores(first, "baseline")
    contestants = {
        label: (_scores(runs, "distilled"), _step_seconds([run.folder for run in runs], "distil"))
        for label, runs in by_label.items()
    }
    known = {
        TEACHER: (_scores(first, "teacher"), float("nan")),
        ALONE: (alone, _step_seconds(_of_same_seeds(first), "baseline")),
        **contestants,
    }
    base, not_learnt = pooled(alone), _unseen(plan)
    unseen = [name for name in base if name in not_learnt]
    settings = _settings({label: runs[0].recipe for label, runs in by_label.items()})
    rows = [
        _row(label, scores, base if label in contestants else None, unseen, step, settings)
        for label, (scores, step) in known.items()
    ]
    notes = [*_notes(plan, unseen), counted(base)]
    return Comparison(rows, [*base, UNSEEN] if unseen else [*base], notes)


def _row(
    label: str,
    scores: Mapping[int, Dice],
    base: Dice | None,
    unseen: Sequence[str],
    step: float,
    settings: Mapping[str, dict[str, object]],
) -> Row:
    dice = pooled(scores)
    return Row(
        label,
        estimates(dice, unseen),
        {} if base is None else estimates(difference(dice, base), unseen),
        {seed: means(of_seed, unseen) for seed, of_seed in scores.items()},
        step,
        settings.get(label, {}),
    )


def _settings(recipes: Mapping[str, Recipe]) -> dict[str, dict[str, object]]:
    """Label -> field -> value, of the fields in which recipes differ and which they may."""
    fields = {label: _may_differ(recipe) for label, recipe in recipes.items()}
    names = dict.fromkeys(name for own in fields.values() for name in own)
    values = {name: [own.get(name) for own in fields.values()] for name in names}
    differ = [name for name, each in values.items() if any(value != each[0] for value in each)]
    return {label: {name: own.get(name) for name in differ} for label, own in fields.items()}


def _may_differ(recipe: Recipe) -> dict[str, object]:
    """Fields that the recipes of a comparison may have differently; options by their method."""
    fields: dict[str, object] = {"distillation": [each.method for each in recipe.distillation]}
    groups: dict[str, BaseModel] = {
        f"distillation.{each.method}": each for each in recipe.distillation
    }
    groups |= {"alignment": recipe.alignment, "stages.paraphraser": recipe.stages["paraphraser"]}
    for group, model in groups.items():
        fields |= {f"{group}.{name}": value for name, value in model if name != "method"}
    return fields | {"distil_from": recipe.distil_from}


def _unseen(plan: Sequence[PlannedRun]) -> set[str]:
    """Names of the tests that share neither name nor place with what their students saw."""
    tests = {test.name for run in plan for test in run.recipe.tests}
    seen = {
        test.name
        for run in plan
        for test in run.recipe.tests
        for domain in (*run.recipe.sources, *run.recipe.unlabelled)
        if test.shares_with(domain)
    }
    return tests - seen


def _scores(runs: Sequence[PlannedRun], role: str) -> dict[int, Dice]:
    """Seed -> Dice of each image by domain."""
    found: dict[int, Dice] = {}
    for run in runs:
        tests = {test.name for test in run.recipe.tests}
        for domain, scores in run.folder.read_report()[role]["scores"].items():
            # Validation cases of a source are of several runs where one is left out.
            if domain in tests or not run.left_out:
                of_images = {name: image["dice"] for name, image in scores["images"].items()}
                found.setdefault(run.recipe.seed, {})[domain] = of_images
    return found


def _of_same_seeds(runs: Sequence[PlannedRun]) -> list[RunDirectory]:
    """The runs beside these that share with them: whichever came first has the steps of that."""
    beside = ((run.folder.path.parent, run.recipe) for run in runs)
    return [folder for seed, recipe in beside for _, folder in finished_alike(seed, recipe)]


def _step_seconds(folders: Sequence[RunDirectory], stage: str) -> float:
    """Median time from one step of a stage to the next, validations left out."""
    took = [seconds for folder in folders for seconds in _between_steps(folder, stage)]
    return median(took) if took else float("nan")


def _between_steps(folder: RunDirectory, stage: str) -> list[float]:
    history = RunHistory()
    history.read(folder.events)
    return history.intervals.get(stage, [])


def _notes(plan: Sequence[PlannedRun], unseen: Sequence[str]) -> list[str]:
    seeds = sorted({run.recipe.seed for run in plan})
    events: list[Event] = [event for run in plan for event in read_events(run.folder.events)]
    hardware = {f"{e.device} in {e.precision}" for e in events if isinstance(e, RunStarted)}
    steps = plan[0].recipe.stages["distil"].steps
    notes = [
        "Dice: mean over images, inside the field of view, on the original pixels; with several "
        "seeds each image counts with its mean over those that have it. In brackets the 95 % "
        "interval of a bootstrap over patients, as the names of images tell them; that of a gain "
        "is drawn over the differences of the same images. It says nothing of other seeds.",
        f"For each seed, all share teacher, data and first weights; the student alone and every "
        f"distilled student then take {steps} steps. "
        f"Seeds: {', '.join(map(str, seeds))}. On {', '.join(sorted(hardware))}.",
        "Milliseconds: median from one step to the next, views and drawing of patches "
        "included, validations and what learns before (alignment, paraphraser) left out; "
        "x alone: in steps of the student alone.",
    ]
    rows: dict[RunDirectory, dict[str, None]] = {}
    for run in plan:
        rows.setdefault(run.folder, {})[run.label] = None
    alike = dict.fromkeys(" and ".join(labels) for labels in rows.values() if len(labels) > 1)
    notes += [f"{labels} ask for the same: one run." for labels in alike]
    notes += [
        f"{label} starts from random weights and takes {run.recipe.schedule('distil').steps} steps."
        for label, run in {run.label: run for run in plan}.items()
        if run.recipe.distil_from == "scratch"
    ]
    if plan[0].left_out:
        notes.append(
            "Leave one out: each domain is segmented by models that were trained on all others."
        )
    if plan[0].recipe.semi_supervised:
        notes.append("The student alone has as many patches with masks a step as the distilled.")
    if unseen:
        notes.append(
            f"Unseen, for no student has learned from a domain of that name or folder: "
            f"{', '.join(unseen)}. The validation split chose checkpoints."
        )
    return notes
