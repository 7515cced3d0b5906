"""Whether distillation helped: a comparison of the students of a run, and of their control."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from src_training.evaluation.bootstrap import Estimate, bootstrap_by_patient, count_patients
from src_training.formatting import format_duration

StudentRole = Literal["baseline", "distilled"]

VALIDATION = ", validation"
"""Suffix of the names of validation splits in a report."""

NAMES: dict[StudentRole, str] = {
    "baseline": "the baseline (trained without distillation)",
    "distilled": "the distilled student",
}

_FEW_PATIENTS = 5
"""Number of patients below which a verdict names it."""

USELESS_DICE = 0.1
"""Dice below which a student is useless."""

_TIE = 0.0005
"""Difference of Dice below which both students are equal."""

_FAR_BEHIND = 0.05
"""Difference of Dice to the teacher from which a verdict names it."""

_RELEVANT_GAIN = 0.005
"""Smallest relevant difference of Dice."""

EQUAL_TIME = 1.1
"""Largest ratio of the durations of two trainings that count as equally long."""


@dataclass(frozen=True)
class Verdict:
    """Comparison of the students of a run.

    Attributes
    ----------
    better
        The student with the higher mean Dice; the distilled one if they are equal to three
        digits.
    clear
        Whether the difference is relevant, and its 95 % interval excludes 0.
    dice
        Mean Dice of each student over the compared domains.
    useless
        Whether neither student segments usefully.
    headline
        Short verdict, without a full stop.
    sentence
        Verdict with its numbers and advice.
    by_kind
        Dice of both students on the tests of each kind (unseen scanners, and those whose
        images were used without masks), one sentence without full stop each.
    control
        Sentence without full stop on the student that trained as long without a teacher,
        or on its absence; empty if the distilled student has no teacher.
    controlled
        Whether the gain at equal time is known, or there is no gain to compare.
    offered
        Description of the better student.
    """

    better: StudentRole
    clear: bool
    dice: dict[StudentRole, float]
    useless: bool
    headline: str
    sentence: str
    by_kind: tuple[str, ...] = ()
    control: str = ""
    controlled: bool = True
    offered: str = ""

    @property
    def tied(self) -> bool:
        """Whether both have the same Dice to three digits."""
        return abs(self.dice["baseline"] - self.dice["distilled"]) < _TIE


def judge(report: Mapping[str, Any], control: Mapping[str, Any] | None = None) -> Verdict | None:
    """Compare the students of a report.

    The test domains decide if they have masks. Otherwise the validation splits decide, which
    were also used to choose the checkpoints. The difference is computed image by image.

    Parameters
    ----------
    report
        Role -> outcome, from a run's ``report.json``.
    control
        Report of the control run, whose student trained as long without a teacher, if any.

    Returns
    -------
    Verdict or None
        None if no domain has a Dice of both students, or there is only one.
    """
    if "distilled" not in report:
        return None
    baseline, distilled = _scores(report, "baseline"), _scores(report, "distilled")
    shared = [name for name in distilled if name in baseline]
    domains = [name for name in shared if not name.endswith(VALIDATION)] or shared
    if not domains:
        return None
    dice: dict[StudentRole, float] = {
        "baseline": _mean([baseline[name]["mean"]["dice"] for name in domains]),
        "distilled": _mean([distilled[name]["mean"]["dice"] for name in domains]),
    }
    gain = _gain(distilled, baseline, domains)
    images = [image for name in domains for image in distilled[name].get("images", ())]
    clear = (gain.low > 0 or gain.high < 0) and abs(gain.value) >= _RELEVANT_GAIN
    lead = dice["baseline"] - dice["distilled"]
    better: StudentRole = "baseline" if lead >= _TIE else "distilled"
    useless = max(dice.values()) < USELESS_DICE
    headline, offered, control_note = _headline(better, clear, gain, useless), NAMES[better], ""
    taught, controlled = report["distilled"].get("taught", True), True
    if taught:
        at_equal_time, control_note = _compare_at_equal_time(report, control, domains, gain)
        controlled = at_equal_time is not None
        if better == "distilled" and clear and not useless:
            headline = _controlled_headline(at_equal_time)
    else:
        headline = "A control, trained without a teacher"
        offered = offered if better == "baseline" else "the control"
    known = report["distilled"].get("domain_kinds", {})
    kinds = {name: known.get(name, "") for name in domains}
    trained = "distilled" if taught else "control"
    figures = _figures(dice, trained, gain, kinds, count_patients(images))
    note = _teacher_note(report, domains, max(dice.values()))
    by_kind = _by_kind(kinds, trained, baseline, distilled)
    apart = "".join(f" {each}." for each in by_kind) if len(by_kind) > 1 else ""
    sentence = f"{headline}: {figures}; {offered} is offered.{apart}{note}"
    if control_note:
        sentence += f" {control_note}."
    return Verdict(
        better,
        clear,
        dice,
        useless,
        headline,
        sentence,
        by_kind,
        control_note,
        controlled,
        offered,
    )


def _scores(report: Mapping[str, Any], role: str) -> dict[str, Any]:
    """Domain -> scores of a model, for domains with a defined Dice."""
    scores = report[role]["scores"]
    return {name: each for name, each in scores.items() if each["mean"]["dice"] is not None}


def _gain(distilled: Mapping[str, Any], other: Mapping[str, Any], domains: list[str]) -> Estimate:
    """Dice of the distilled student minus that of another one, mean over domains."""
    pairs = [(distilled[name], other[name]) for name in domains]
    if all(one.get("images") and other.get("images") for one, other in pairs):
        by_image = [
            {
                name: image["dice"] - other["images"][name]["dice"]
                for name, image in one["images"].items()
                if image["dice"] is not None and other["images"][name]["dice"] is not None
            }
            for one, other in pairs
        ]
        return bootstrap_by_patient(by_image)
    # Without scores of images, the intervals of both students bound the difference.
    value = _mean([one["mean"]["dice"] - other["mean"]["dice"] for one, other in pairs])
    ends = [(*_ends(one), *_ends(other)) for one, other in pairs]
    low, high = (_mean([end[a] - end[b] for end in ends]) for a, b in ((0, 3), (1, 2)))
    return Estimate(value, low, high)


def _ends(scores: dict[str, Any]) -> tuple[float, float]:
    low, high = scores["interval"]["dice"]
    return math.nan if low is None else low, math.nan if high is None else high


def _mean(values: list[float]) -> float:
    return float(np.mean(values))


def _headline(better: StudentRole, clear: bool, gain: Estimate, useless: bool) -> str:
    """The verdict without its numbers."""
    if useless:
        return "Neither student segments usefully yet"
    known = not math.isnan(gain.low)
    if not clear and (known or abs(gain.value) < _RELEVANT_GAIN):
        return "No clear difference between baseline and distilled student"
    return f"Distillation {'helped' if better == 'distilled' else 'did not help'} here"


def _controlled_headline(at_equal_time: Estimate | None) -> str:
    """The verdict on a gain at equal steps, given the gain at equal time."""
    if at_equal_time is None:
        return "Distillation helped at equal steps"
    if at_equal_time.low > 0 and at_equal_time.value >= _RELEVANT_GAIN:
        return "Distillation helped, at equal time too"
    return "Distillation helped at equal steps, not clearly at equal time"


def _compare_at_equal_time(
    report: Mapping[str, Any],
    control: Mapping[str, Any] | None,
    domains: list[str],
    gain: Estimate,
) -> tuple[Estimate | None, str]:
    """Gain over a student that trained as long without a teacher, and a sentence on it."""
    distilled, baseline = _seconds(report["distilled"]), _seconds(report["baseline"])
    scores = _scores(control, "distilled") if control else {}
    if control and all(name in scores for name in domains):
        at_equal_time = _gain(_scores(report, "distilled"), scores, domains)
        took = f"{_duration(_seconds(control['distilled']))}; distillation {_duration(distilled)}"
        steps = control["distilled"].get("steps")
        counted = "" if steps is None else f"{steps:,} steps, "
        dice = _mean([scores[name]["mean"]["dice"] for name in domains])
        return at_equal_time, (
            f"At equal time without a teacher ({counted}{took}): Dice {dice:.3f} "
            f"({_interval(at_equal_time)})"
        )
    if distilled is None or baseline is None:
        return None, "No control at equal time was trained"
    took = f"{_duration(distilled)} of distillation, {_duration(baseline)} of the baseline"
    if distilled <= EQUAL_TIME * baseline:
        return gain, f"The baseline is a control at equal time, too ({took})"
    return None, (
        f"No control at equal time was trained: distillation took {distilled / baseline:.1f} "
        f"times as long as the baseline ({took})"
    )


def _seconds(outcome: Mapping[str, Any]) -> float | None:
    """Seconds of the stage that trained a model; None if it was not timed."""
    steps, step_seconds = outcome.get("steps"), outcome.get("step_seconds")
    return None if steps is None or step_seconds is None else float(steps * step_seconds)


def _duration(seconds: float | None) -> str:
    return "not timed" if seconds is None else format_duration(seconds)


def _figures(
    dice: dict[StudentRole, float],
    trained: str,
    gain: Estimate,
    kinds: Mapping[str, str],
    patients: int,
) -> str:
    """Dice of both students, their difference, and where it was measured."""
    scores = f"baseline {dice['baseline']:.3f}, {trained} {dice['distilled']:.3f}"
    interval = _interval(gain)
    if not math.isnan(gain.low) and 1 < patients < _FEW_PATIENTS:
        interval += f"; only {patients} patients"
    return f"Dice {scores} {_place(kinds)} ({interval})"


def _interval(gain: Estimate) -> str:
    if math.isnan(gain.low):
        return "one patient, so there is no interval"
    value, low, high = (f"{round(each, 3) + 0:.3f}" for each in (gain.value, gain.low, gain.high))
    return f"difference {value}, 95 % interval {low} to {high}"


def _teacher_note(report: Mapping[str, Any], domains: list[str], best: float) -> str:
    """A sentence on the teacher's Dice if both students are far below it; empty otherwise."""
    scores = _scores(report, "teacher") if "teacher" in report else {}
    if not all(name in scores for name in domains):
        return ""
    dice = _mean([scores[name]["mean"]["dice"] for name in domains])
    if dice - best < _FAR_BEHIND:
        return ""
    return f" The teacher reaches {dice:.3f}: longer training of the student may help most."


def _by_kind(
    kinds: Mapping[str, str],
    trained: str,
    baseline: Mapping[str, Any],
    distilled: Mapping[str, Any],
) -> tuple[str, ...]:
    """Dice of both students on the tests of each kind."""
    sentences = []
    for kind in dict.fromkeys(kinds.values()):
        names = [name for name in kinds if kinds[name] == kind]
        one, other = (
            _mean([scores[name]["mean"]["dice"] for name in names])
            for scores in (baseline, distilled)
        )
        if kind not in ("", "validation"):
            figures = f"Dice baseline {one:.3f}, {trained} {other:.3f}"
            sentences.append(f"{kind.capitalize()} ({', '.join(names)}): {figures}")
    return tuple(sentences)


def _place(kinds: Mapping[str, str]) -> str:
    """The domains of the comparison, with their kinds unless all are unseen."""
    if all(name.endswith(VALIDATION) for name in kinds):
        names = ", ".join(name.removesuffix(VALIDATION) for name in kinds)
        return f"on the validation images of {names}"
    trained = set(kinds.values()) - {"", "unseen"}
    listed = [f"{name} ({kind})" if trained and kind else name for name, kind in kinds.items()]
    return f"on {listed[0]}" if len(listed) == 1 else f"on average over {', '.join(listed)}"
