"""Whether distillation helped: the two students of a run compared, and with their control."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from src_training.evaluation.bootstrap import Estimate, bootstrap_by_patient, count_patients

StudentRole = Literal["baseline", "distilled"]

VALIDATION = ", validation"
"""How the names of a report's validation splits end."""

NAMES: dict[StudentRole, str] = {
    "baseline": "the baseline (trained without distillation)",
    "distilled": "the distilled student",
}

_FEW_PATIENTS = 5
_USELESS_DICE = 0.1
_TIE = 0.0005
_FAR_BEHIND = 0.05
_RELEVANT_GAIN = 0.005
"""Smaller differences of Dice make no difference to a person."""

EQUAL_TIME = 1.1
"""Two trainings of which one took at most this many times as long as the other took as long."""


@dataclass(frozen=True)
class Verdict:
    """Which student of a run is the better one, and how sure that is.

    Attributes
    ----------
    better
        The student with the higher mean Dice; the distilled one if they are equal to three
        digits.
    clear
        Whether the difference matters, and its 95 % interval excludes 0.
    dice
        Mean Dice of each student over the domains that were compared.
    useless
        Whether neither student segments usefully.
    headline
        The verdict in a few words, without a full stop.
    sentence
        The verdict with the numbers behind it, and what would help.
    by_kind
        Dice of both students on the tests of each kind, a sentence without full stop each:
        scanners that are unseen, and those whose images without masks the distilled one saw.
    control
        How the student does that takes as long without a teacher, or that none
        was trained, a sentence without full stop; empty for such a student.
    controlled
        Whether that is known, or there is no gain to be compared.
    offered
        The better student in words.
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

    The test domains decide, if they have masks; the validation splits, which chose the
    checkpoints, do so otherwise. The difference is taken image by image.

    Parameters
    ----------
    report
        Role -> how its model does, as a run's ``report.json`` has it.
    control
        The report of the run whose student took as long without a teacher, if there is one.

    Returns
    -------
    Verdict or None
        None if no domain has a Dice of both students.
    """
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
    useless = max(dice.values()) < _USELESS_DICE
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
    """Domain -> scores of a model, of the domains where Dice is defined."""
    scores = report[role]["scores"]
    return {name: each for name, each in scores.items() if each["mean"]["dice"] is not None}


def _gain(distilled: Mapping[str, Any], other: Mapping[str, Any], domains: list[str]) -> Estimate:
    """Dice of the distilled student minus that of another; mean over domains."""
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
    # Without images only the intervals of both are known: the difference lies within their ends.
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
    """The verdict on a gain at equal steps, by what is left of it at equal time."""
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
    """Gain over a student that trains as long without a teacher, and a sentence on it."""
    distilled, baseline = _seconds(report["distilled"]), _seconds(report["baseline"])
    scores = _scores(control, "distilled") if control else {}
    if control and all(name in scores for name in domains):
        found = _gain(_scores(report, "distilled"), scores, domains)
        took = f"{_duration(_seconds(control['distilled']))}; distillation {_duration(distilled)}"
        steps = control["distilled"].get("steps")
        counted = "" if steps is None else f"{steps:,} steps, "
        dice = _mean([scores[name]["mean"]["dice"] for name in domains])
        return found, (
            f"At equal time without a teacher ({counted}{took}): Dice {dice:.3f} "
            f"({_interval(found)})"
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
    """What the stage took that trained a model; None where that was not timed."""
    steps, each = outcome.get("steps"), outcome.get("step_seconds")
    return None if steps is None or each is None else float(steps * each)


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "not timed"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:,.0f} s"


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
    """What the students fall short of their teacher by, where that is much."""
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
    """Where it was measured; the kind of each domain, unless all are unseen."""
    if all(name.endswith(VALIDATION) for name in kinds):
        names = ", ".join(name.removesuffix(VALIDATION) for name in kinds)
        return f"on the validation images of {names}"
    trained = set(kinds.values()) - {"", "unseen"}
    listed = [f"{name} ({kind})" if trained and kind else name for name, kind in kinds.items()]
    return f"on {listed[0]}" if len(listed) == 1 else f"on average over {', '.join(listed)}"
