"""Controls of the gain of a distilled student: students trained without or with less of a teacher.

Each control isolates one possible cause of the gain, such as longer training.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from src_training.comparison.plan import BASELINE, PlannedRun, find_shareable_runs
from src_training.config.recipe import Recipe
from src_training.distillation import active_parts
from src_training.distillation.base import OutputOptions
from src_training.distillation.masks import MasksOptions
from src_training.errors import InputError
from src_training.evaluation.verdict import EQUAL_TIME
from src_training.runs.directory import RunDirectory
from src_training.runs.history import RunHistory

Fields = dict[str, object]
"""Dotted fields of a recipe -> value."""


@dataclass(frozen=True)
class ControlKind:
    """A kind of control of a distilled student.

    Attributes
    ----------
    title
        Column title.
    suffix
        Suffix to label and directory of the distilled student.
    fields
        Function that returns the fields to change in that student's recipe; None if
        it has no such control.
    """

    title: str
    suffix: str
    fields: Callable[[Recipe], Fields | None]


def _masks(**options: object) -> Fields:
    return {"distillation": [{"method": "masks", "views": 0, **options}]}


def _same_style(recipe: Recipe) -> Fields | None:
    """Masks in place of the teacher's predictions of views and mixed patches, equally weighted."""
    views, ce, mixed = 0, 0.0, 0.0
    for options in recipe.distillation:
        for part in active_parts(options):
            weight = sum(part.weights(options).values())
            ce += weight * part.predicts_views
            mixed += weight * part.mixes
            views = max(views, getattr(options, "views", 0))
    return _masks(views=views, ce=ce or 1.0, mixed=mixed) if views or mixed else None


def _plain_teacher(recipe: Recipe) -> Fields | None:
    """A teacher that sees unaugmented patches instead of the student's patches."""
    fields: Fields = {
        f"distillation.{options.method}.teacher_sees": "plain"
        for options in recipe.distillation
        if isinstance(options, OutputOptions)
        and options.teacher_sees == "same"
        and any(part.learns_outputs for part in active_parts(options))
    }
    return fields or None


def _whole_batch(recipe: Recipe) -> Fields | None:
    """Batches of labelled patches alone, if half of the distilled student's are unlabelled."""
    return _masks(whole_batch=True) if recipe.semi_supervised else None


KINDS: dict[str, ControlKind] = {
    "equal_time": ControlKind("student alone, equal time", "equal-time", lambda _: _masks()),
    "masks": ControlKind("masks in the same views", "masks", _same_style),
    "plain": ControlKind("teacher on plain patches", "plain-teacher", _plain_teacher),
    "whole_batch": ControlKind("student alone, whole batch", "whole-batch", _whole_batch),
}
"""The controls: the student alone for as many measured seconds; masks in place of the teacher; the
same distillation from unaugmented patches; and, in semi-supervised runs, the student alone with
batches of labelled patches."""


def plan_controls(
    plan: Sequence[PlannedRun], kinds: Iterable[str] = tuple(KINDS)
) -> list[PlannedRun]:
    """Plan the missing controls of the finished runs of a comparison.

    The number of steps of controls at equal time follows from the median duration of a
    distillation step over all seeds; controls that were begun keep their number. Controls with
    equal recipes are one run.

    Parameters
    ----------
    plan
        Finished runs; those without a teacher or a distillation have no controls.
    kinds
        Names of `KINDS`.
    """
    planned: list[PlannedRun] = []
    for label, runs in _by_label(plan).items():
        recipe = runs[0].recipe
        if not recipe.distils or recipe.masks_alone is not None:
            continue
        for name in kinds:
            if (fields := _fields(name, runs)) is None:
                continue
            for run in runs:
                planned.append(_control(run, label, KINDS[name], fields, [*plan, *planned]))
    in_plan = {run.directory for run in plan}
    new = {run.directory: run for run in planned if run.directory not in in_plan}
    return list(new.values())


def _fields(kind: str, runs: Sequence[PlannedRun]) -> Fields | None:
    """Fields that a control changes in the recipe of finished runs; None if they have none."""
    fields = KINDS[kind].fields(runs[0].recipe)
    if kind != "equal_time" or fields is None:
        return fields
    begun = [file for run in runs if (file := run.directory.control.recipe).exists()]
    for options in (Recipe.load(file).masks_alone for file in begun):
        if options is not None:
            return _masks(longer=options.longer)
    factor = _time_factor(runs)
    # If the baseline took as long, it is the control itself.
    if math.isnan(factor) or (factor <= EQUAL_TIME and runs[0].recipe.distil_from == "student"):
        return None
    return _masks(longer=max(1.0, round(factor, 2)))


def _time_factor(runs: Sequence[PlannedRun]) -> float:
    """Duration of a distillation step relative to one of the student alone; NaN if not timed."""
    distil = step_seconds([run.directory for run in runs], "distil")
    return distil / step_seconds(baseline_directories(runs), "baseline")


def _control(
    run: PlannedRun, label: str, kind: ControlKind, fields: Fields, others: Sequence[PlannedRun]
) -> PlannedRun:
    """The control of a run, or another run of the same seed with an equal recipe."""
    path = run.directory.path
    changes = {"name": f"{run.recipe.name}-{kind.suffix}"} | fields
    recipe = run.recipe.changed(changes, f"{run.name}: {kind.title}")
    control = PlannedRun(
        f"{label}-{kind.suffix}",
        recipe,
        RunDirectory(path.with_name(f"{path.name}-{kind.suffix}")),
        run.directory,
        left_out=run.left_out,
    )
    same_seed = (other for other in others if other.directory.path.parent == path.parent)
    equal = next((other for other in same_seed if _equal(other.recipe, recipe)), None)
    return equal if equal is not None else control


def equal_time_run(directory: RunDirectory) -> PlannedRun:
    """Plan the control at equal time of a finished run, in a sibling directory.

    Raises
    ------
    InputError
        If the run has not finished, has no teacher, or was not timed, or if its
        baseline took as long.
    """
    recipe = Recipe.load(directory.recipe)
    run = PlannedRun(directory.path.name, recipe, directory, None)
    if not run.done:
        raise InputError(f"{directory.path}: the run has not finished; expected a finished one")
    if not recipe.distils or recipe.masks_alone is not None:
        raise InputError(f"{directory.path}: no teacher taught this run; expected a distillation")
    if planned := plan_controls([run], ["equal_time"]):
        return planned[0]
    if math.isnan(factor := _time_factor([run])):
        raise InputError(f"{directory.path}: the run timed no steps; expected two or more a stage")
    raise InputError(
        f"{directory.path}: a step of the distillation took {factor:.2f} of the baseline's; "
        "expected more: the baseline is the control at equal time"
    )


def find_controls(
    runs: Mapping[str, Sequence[PlannedRun]], label: str, seconds: Mapping[str, float]
) -> dict[str, str]:
    """Find the controls of a distilled student among the rows of a comparison.

    Parameters
    ----------
    runs
        Label -> runs of that row.
    label
        Label of the distilled student.
    seconds
        Label, including `BASELINE` -> seconds of the stage that trained the student.

    Returns
    -------
    dict
        Kind of control -> label of its row; empty if no such control was trained.
    """
    recipe = runs[label][0].recipe
    if recipe.masks_alone is not None:
        return {}
    # The same distillation with the teacher on plain patches has the same controls.
    base = label.removesuffix(f"-{KINDS['plain'].suffix}")
    controls = {}
    for name, kind in KINDS.items():
        if (fields := kind.fields(recipe)) is None:
            continue
        control = f"{base}-{kind.suffix}"
        if control in runs:
            controls[name] = control
        elif name == "equal_time":
            controls[name] = _nearest(runs, label, seconds)
        else:
            expected = recipe.changed(fields, label)
            equal = (other for other, each in runs.items() if _equal(each[0].recipe, expected))
            controls[name] = next(equal, "")
    return controls


def _nearest(
    runs: Mapping[str, Sequence[PlannedRun]], label: str, seconds: Mapping[str, float]
) -> str:
    """Label of the student alone whose duration is most similar; empty if none is similar."""
    recipe = runs[label][0].recipe
    alone = [
        other
        for other, each in runs.items()
        if (options := each[0].recipe.masks_alone) is not None
        and _is_alone(options)
        and each[0].recipe.distil_from == recipe.distil_from
    ]
    alone += [BASELINE] * (recipe.distil_from == "student")
    # By the logarithm, so that half as long is as different as twice as long.
    distance = {each: abs(math.log(seconds[each] / seconds[label])) for each in alone}
    close = [each for each in alone if distance[each] <= math.log(EQUAL_TIME)]
    return min(close, key=distance.__getitem__, default="")


def _is_alone(options: MasksOptions) -> bool:
    return not options.views and not options.mixed and not options.whole_batch


def _by_label(plan: Sequence[PlannedRun]) -> dict[str, list[PlannedRun]]:
    by_label: dict[str, list[PlannedRun]] = {}
    for run in plan:
        by_label.setdefault(run.label, []).append(run)
    return by_label


def _equal(recipe: Recipe, other: Recipe) -> bool:
    """Whether recipes are equal except for name, description and seed."""
    ignored: dict[str, Any] = {
        field: getattr(recipe, field) for field in ("name", "description", "seed")
    }
    return other.model_copy(update=ignored) == recipe


def step_seconds(directories: Sequence[RunDirectory], stage: str) -> float:
    """Median seconds of a step of a stage over several runs, without validations; may be NaN."""
    seconds = list[float]()
    for directory in directories:
        history = RunHistory()
        history.read(directory.events)
        seconds += history.intervals.get(stage, [])
    return median(seconds) if seconds else float("nan")


def baseline_directories(runs: Sequence[PlannedRun]) -> list[RunDirectory]:
    """Return runs that trained the baseline: these, or those of the same seeds that share it."""
    own = [run.directory for run in runs]
    if not math.isnan(step_seconds(own, "baseline")):
        return own
    folders = ((run.directory.path.parent, run.recipe) for run in runs)
    return [
        directory for seed, recipe in folders for _, directory in find_shareable_runs(seed, recipe)
    ]
