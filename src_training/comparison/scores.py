"""Scores of the runs of a comparison: Dice on each domain, gains, and the cost of a step."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel

from src_training.comparison.controls import (
    KINDS,
    baseline_directories,
    find_controls,
    step_seconds,
)
from src_training.comparison.plan import BASELINE, TEACHER, PlannedRun
from src_training.config.recipe import Recipe
from src_training.evaluation.bootstrap import Estimate, bootstrap_by_patient, count_patients
from src_training.formatting import format_duration
from src_training.runs.directory import RunDirectory
from src_training.runs.events import RunStarted, read_events

ADAPTED_MEAN, UNSEEN_MEAN = "mean of adapted", "mean of unseen"
"""Columns of means over domains of a kind; see `DomainKind`."""

Groups = Mapping[str, Sequence[str]]
"""Column of a mean -> its domains, at least one."""

Dice = dict[str, dict[str, float]]
"""Domain -> image -> Dice."""

_FEW_PATIENTS = 5


@dataclass(frozen=True)
class Control:
    """Gain of a distilled student over a control; see `KINDS` of `controls`.

    Attributes
    ----------
    label
        Label of the control's row; empty if it was not trained.
    gain
        Domain, or column of a mean -> Dice minus that of the control, image by
        image; empty if it was not trained.
    """

    label: str
    gain: dict[str, Estimate]


@dataclass(frozen=True)
class Row:
    """One model of a comparison.

    Attributes
    ----------
    label
        Name of a recipe, variant or method, or `BASELINE` or `TEACHER`.
    dice
        Domain, or column of a mean -> Dice.
    gain
        Domain, or column of a mean -> Dice minus that of the student alone, image
        by image; empty for the student alone and the teacher.
    controls
        Kind of control -> gain over it.
    by_seed
        Seed -> domain -> mean Dice.
    step
        Median seconds of a training step; NaN for the teacher.
    steps
        Number of steps of the stage that trained the model.
    settings
        Dotted field in which the recipes differ -> value, None if the recipe
        has no such field; empty for the student alone and the teacher.
    """

    label: str
    dice: dict[str, Estimate]
    gain: dict[str, Estimate]
    controls: dict[str, Control]
    by_seed: dict[int, dict[str, float]]
    step: float
    steps: int
    settings: dict[str, object]

    @property
    def seconds(self) -> float:
        """Seconds of the stage that trained the model, without validations; NaN for the teacher."""
        return self.step * self.steps


@dataclass(frozen=True)
class Comparison:
    """The rows of a comparison, and notes on them.

    Attributes
    ----------
    rows
        Teacher, student alone, then the distilled students in order; without a
        distillation the student alone.
    domains
        Columns: domains, then `means`.
    means
        Columns of means: `ADAPTED_MEAN` and `UNSEEN_MEAN`, if there are such domains.
    notes
        Sentences on how the figures were measured.
    """

    rows: list[Row]
    domains: list[str]
    means: list[str]
    notes: list[str]


def summarise(plan: Sequence[PlannedRun]) -> Comparison:
    """Summarise finished runs by their reports and events.

    Parameters
    ----------
    plan
        Finished runs; see `plan_runs`.

    Raises
    ------
    OSError, KeyError
        If a report is missing, or lacks a model.
    InputError
        If the recipe of a run in the same folder cannot be read.
    """
    by_label: dict[str, list[PlannedRun]] = {}
    for run in sorted(plan, key=lambda run: run.recipe.seed):
        by_label.setdefault(run.label, []).append(run)
    first = next(iter(by_label.values()))
    distilled = by_label if first[0].recipe.distils else {}
    baseline = _scores(first, "baseline" if distilled else "student")
    scores, costs = {BASELINE: baseline}, {BASELINE: _baseline_cost(first)}
    if distilled:
        scores = {TEACHER: _scores(first, "teacher"), **scores}
        costs[TEACHER] = math.nan, first[0].recipe.schedule("teacher").steps
    for label, runs in distilled.items():
        scores[label] = _scores(runs, "distilled")
        step = step_seconds([run.directory for run in runs], "distil")
        costs[label] = step, runs[0].recipe.schedule("distil").steps
    seconds = {label: step * steps for label, (step, steps) in costs.items()}
    dice = {label: average_seeds(of_seeds) for label, of_seeds in scores.items()}
    reference = dice[BASELINE]
    groups = _groups(plan, reference)
    settings = _settings({label: runs[0].recipe for label, runs in distilled.items()})
    rows = []
    for label, of_seeds in scores.items():

        def gain_over(other: str, own: Dice = dice[label]) -> dict[str, Estimate]:
            return estimate_means(difference(own, dice[other]), groups) if other else {}

        controls = find_controls(distilled, label, seconds) if label in distilled else {}
        rows.append(
            Row(
                label,
                estimate_means(dice[label], groups),
                gain_over(BASELINE) if label in distilled else {},
                {kind: Control(other, gain_over(other)) for kind, other in controls.items()},
                {seed: means(of_seed, groups) for seed, of_seed in of_seeds.items()},
                *costs[label],
                settings.get(label, {}),
            )
        )
    notes = [*_notes(plan, groups), *_control_notes(rows), count_images(reference)]
    return Comparison(rows, [*reference, *groups], [*groups], notes)


def _baseline_cost(runs: Sequence[PlannedRun]) -> tuple[float, int]:
    """Seconds of a step of the student alone, and its number of steps."""
    recipe = runs[0].recipe
    if recipe.distils:
        seconds = step_seconds(baseline_directories(runs), "baseline")
        return seconds, recipe.schedule("baseline").steps
    seconds = step_seconds([run.directory for run in runs], "student")
    return seconds, recipe.schedule("student").steps


def _settings(recipes: Mapping[str, Recipe]) -> dict[str, dict[str, object]]:
    """Label -> field -> value, for fields in which the recipes differ."""
    by_label = {label: _variable_fields(recipe) for label, recipe in recipes.items()}
    names = dict.fromkeys(name for fields in by_label.values() for name in fields)
    values = {name: [fields.get(name) for fields in by_label.values()] for name in names}
    differing = [name for name, each in values.items() if any(value != each[0] for value in each)]
    return {
        label: {name: fields.get(name) for name in differing} for label, fields in by_label.items()
    }


def _variable_fields(recipe: Recipe) -> dict[str, object]:
    """Dotted fields in which the recipes of a comparison may differ -> value."""
    fields: dict[str, object] = {"distillation": [each.method for each in recipe.distillation]}
    groups: dict[str, BaseModel] = {
        f"distillation.{each.method}": each for each in recipe.distillation
    }
    groups |= {"alignment": recipe.alignment, "stages.paraphraser": recipe.stages["paraphraser"]}
    for group, model in groups.items():
        fields |= {f"{group}.{name}": value for name, value in model if name != "method"}
    return fields | {"distil_from": recipe.distil_from}


def _groups(plan: Sequence[PlannedRun], domains: Iterable[str]) -> Groups:
    """Column of a mean -> tests: those unseen by all students, and those that some adapted to."""
    kinds: dict[str, set[str]] = {}
    for run in plan:
        for test in run.recipe.tests:
            kinds.setdefault(test.name, set()).add(run.recipe.kind_of(test))
    tests = [name for name in domains if "source" not in kinds.get(name, {"source"})]
    adapted = [name for name in tests if "adapted" in kinds[name]]
    groups = {ADAPTED_MEAN: adapted, UNSEEN_MEAN: [name for name in tests if name not in adapted]}
    return {column: names for column, names in groups.items() if names}


def _scores(runs: Sequence[PlannedRun], role: str) -> dict[int, Dice]:
    """Seed -> domain -> image -> Dice of a role's model."""
    by_seed: dict[int, Dice] = {}
    for run in runs:
        tests = {test.name for test in run.recipe.tests}
        for domain, scores in run.directory.read_report()[role]["scores"].items():
            # In a leave-one-out comparison several runs have the same validation domain.
            if domain in tests or not run.left_out:
                of_images = {name: image["dice"] for name, image in scores["images"].items()}
                by_seed.setdefault(run.recipe.seed, {})[domain] = of_images
    return by_seed


def _hardware(plan: Sequence[PlannedRun]) -> list[str]:
    """Devices and precisions of the processes of all runs."""
    events = (event for run in plan for event in read_events(run.directory.events))
    started = [event for event in events if isinstance(event, RunStarted)]
    return sorted({f"{event.device} in {event.precision}" for event in started})


def _notes(plan: Sequence[PlannedRun], groups: Groups) -> list[str]:
    recipe = plan[0].recipe
    steps = recipe.stages["distil" if recipe.distils else "student"].steps
    shared = (
        f"For each seed, all share teacher, data and first weights; the student alone and every "
        f"distilled student then take {steps} steps, but for those named below."
        if recipe.distils
        else f"The student alone takes {steps} steps."
    )
    seeds = ", ".join(map(str, sorted({run.recipe.seed for run in plan})))
    notes = [
        "Dice: mean over images, inside the field of view, on the original pixels; with several "
        "seeds each image counts with its mean over those that have it. In brackets the 95 % "
        "interval of a bootstrap over patients, which the names of images tell; that of a gain "
        "is over the differences of the same images. It does not cover other seeds.",
        f"{shared} Seeds: {seeds}. On {', '.join(_hardware(plan))}.",
        "Milliseconds: median from one step to the next, with views and drawing of patches, "
        "without validations and earlier stages (alignment, paraphraser); "
        "x alone: in steps of the student alone. Seconds: that times the steps of the stage.",
    ]
    rows: dict[RunDirectory, dict[str, None]] = {}
    for run in plan:
        rows.setdefault(run.directory, {})[run.label] = None
    equal = dict.fromkeys(" and ".join(labels) for labels in rows.values() if len(labels) > 1)
    notes += [f"{labels} have equal recipes: one run." for labels in equal]
    notes += [
        f"{label}{' starts from random weights and' * (run.recipe.distil_from == 'scratch')} takes "
        f"{run.recipe.schedule('distil').steps} steps."
        for label, run in {run.label: run for run in plan}.items()
        if run.recipe.distils and run.recipe.schedule("distil").steps != steps
    ]
    if plan[0].left_out:
        notes.append(
            "Leave one out: each domain is segmented by models that were trained on all others."
        )
    if recipe.semi_supervised:
        notes.append("The student alone has as many patches with masks a step as the distilled.")
    if adapted := groups.get(ADAPTED_MEAN):
        notes.append(
            "Adapted, as distilled students saw images of that scanner without masks, and the "
            f"student alone did not: {', '.join(adapted)}."
        )
    if unseen := groups.get(UNSEEN_MEAN):
        notes.append(
            f"Unseen, as no student was trained on a domain of that name or folder: "
            f"{', '.join(unseen)}. The validation split chose checkpoints."
        )
    return notes


def _control_notes(rows: Sequence[Row]) -> list[str]:
    """Sentences on missing controls, and on the durations of those at equal time."""
    by_label = {row.label: row for row in rows}
    notes = []
    for kind, spec in KINDS.items():
        having = {row.label: row.controls[kind].label for row in rows if kind in row.controls}
        if lacking := [label for label, control in having.items() if not control]:
            notes.append(
                f"No control was trained ({spec.title}) beside {', '.join(lacking)}. "
                "The same command with --controls trains it."
            )
        if kind == "equal_time":
            notes += [
                f"{label} took {_took(by_label[label])}; at equal time, {control} "
                f"{_took(by_label[control])}."
                for label, control in having.items()
                if control
            ]
    return notes


def _took(row: Row) -> str:
    seconds = "an unknown time" if math.isnan(row.seconds) else format_duration(row.seconds)
    return f"{seconds} ({row.steps:,} steps)"


def average_seeds(scores: Mapping[int, Dice]) -> Dice:
    """Average Dice over seeds, image by image; seeds may differ in their validation images."""
    values: dict[str, dict[str, list[float]]] = {}
    for of_seed in scores.values():
        for domain, images in of_seed.items():
            for name, dice in images.items():
                values.setdefault(domain, {}).setdefault(name, []).append(dice)
    return {
        domain: {name: float(np.mean(dice)) for name, dice in images.items()}
        for domain, images in values.items()
    }


def difference(dice: Dice, other: Dice) -> Dice:
    """Subtract the Dice of another model, image by image."""
    return {
        domain: {name: value - other[domain][name] for name, value in images.items()}
        for domain, images in dice.items()
    }


def means(scores: Dice, groups: Groups) -> dict[str, float]:
    """Average Dice over the images of each domain, and over the domains of each group."""
    result = {domain: float(np.mean(list(images.values()))) for domain, images in scores.items()}
    for column, names in groups.items():
        result[column] = float(np.mean([result[domain] for domain in names]))
    return result


def estimate_means(dice: Dice, groups: Groups) -> dict[str, Estimate]:
    """Compute `means` with confidence intervals."""
    estimates = {domain: bootstrap_by_patient([images]) for domain, images in dice.items()}
    for column, names in groups.items():
        estimates[column] = bootstrap_by_patient([dice[domain] for domain in names])
    return estimates


def count_images(dice: Dice) -> str:
    """Return a sentence on the numbers of images and patients, and on what they imply."""
    counts = {name: count_patients(images) for name, images in dice.items()}
    parts = [
        f"{name} {len(images)}" + (f" (patients: {counts[name]})" * (counts[name] < len(images)))
        for name, images in dice.items()
    ]
    sentence = f"Images: {', '.join(parts)}."
    if few := [name for name, count in counts.items() if count < _FEW_PATIENTS]:
        sentence += f" {', '.join(few)}: too few patients to conclude, whatever the interval."
    if single := [name for name, count in counts.items() if count == 1]:
        sentence += f" {', '.join(single)}: one patient, no interval, nor one of a mean with it."
    return sentence
