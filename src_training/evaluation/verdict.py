"""Whether distillation helped: the two students of a run compared, in one sentence."""

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
_RELEVANT_GAIN = 0.005
"""Smaller differences of Dice make no difference to a person."""


@dataclass(frozen=True)
class Verdict:
    """Which student of a run is the better one, and how sure that is.

    Attributes
    ----------
    better
        The student with the higher mean Dice; the distilled one if they are equal.
    clear
        Whether the difference matters, and its 95 % interval excludes 0.
    dice
        Mean Dice of each student over the domains that were compared.
    useless
        Whether neither student segments usefully.
    sentence
        The verdict for a person, with the numbers behind it.
    """

    better: StudentRole
    clear: bool
    dice: dict[StudentRole, float]
    useless: bool
    sentence: str

    @property
    def tied(self) -> bool:
        """Whether both have the same Dice to three digits."""
        return abs(self.dice["baseline"] - self.dice["distilled"]) < _TIE


def judge(report: Mapping[str, Any]) -> Verdict | None:
    """Compare the students of a report.

    The test domains decide, if they have masks; the validation splits, which chose the
    checkpoints, do so otherwise. The difference is taken image by image.

    Parameters
    ----------
    report
        Role -> how its model does, as a run's ``report.json`` has it.

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
    pairs = [(distilled[name], baseline[name]) for name in domains]
    gain = _gain(pairs)
    images = [image for scores, _ in pairs for image in scores.get("images", ())]
    clear = (gain.low > 0 or gain.high < 0) and abs(gain.value) >= _RELEVANT_GAIN
    better: StudentRole = "baseline" if dice["baseline"] > dice["distilled"] else "distilled"
    sentence = _sentence(better, clear, dice, gain, domains, count_patients(images))
    return Verdict(better, clear, dice, max(dice.values()) < _USELESS_DICE, sentence)


def _scores(report: Mapping[str, Any], role: str) -> dict[str, Any]:
    """Domain -> scores of a model, of the domains where Dice is defined."""
    scores = report[role]["scores"]
    return {name: each for name, each in scores.items() if each["mean"]["dice"] is not None}


def _gain(pairs: list[tuple[dict[str, Any], dict[str, Any]]]) -> Estimate:
    """Dice of the distilled student minus that of the baseline; mean over domains."""
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


def _sentence(
    better: StudentRole,
    clear: bool,
    dice: dict[StudentRole, float],
    gain: Estimate,
    domains: list[str],
    patients: int,
) -> str:
    figures = (
        f"baseline {dice['baseline']:.3f}, distilled {dice['distilled']:.3f} {_place(domains)}"
    )
    known = not math.isnan(gain.low)
    interval = (
        f"difference {gain.value:.3f}, 95 % interval {gain.low:.3f} to {gain.high:.3f}"
        if known
        else "one patient, so there is no interval"
    )
    if 1 < patients < _FEW_PATIENTS and known:
        interval += f"; only {patients} patients"
    offer = f"{NAMES[better]} is offered"
    if max(dice.values()) < _USELESS_DICE:
        return f"Neither student segments usefully yet: Dice {figures}. {_capital(offer)}."
    if not clear and (known or abs(gain.value) < _RELEVANT_GAIN):
        return f"No clear difference: Dice {figures} ({interval}); {offer}."
    helped = "helped" if better == "distilled" else "did not help"
    return f"Distillation {helped} here: Dice {figures} ({interval}); {offer}."


def _place(domains: list[str]) -> str:
    if len(domains) > 1:
        return f"on average over {', '.join(domains)}"
    name = domains[0]
    return (
        f"on {name}"
        if not name.endswith(VALIDATION)
        else (f"on the validation images of {name.removesuffix(VALIDATION)}")
    )


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
