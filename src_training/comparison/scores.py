"""Dice of a comparison: pooled over seeds, and how far to trust its means."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from src_training.data.split import patient_of

UNSEEN = "mean of unseen"

Dice = dict[str, dict[str, float]]
"""Domain -> Dice of each image, by its name."""

_DRAWS, _FEW = 2000, 5


@dataclass(frozen=True)
class Estimated:
    """A mean over images, and how far to trust it.

    Attributes
    ----------
    value
        Dice, or a difference of two; of `UNSEEN`, the mean of the domains' means.
    low, high
        95 % interval: percentiles of a bootstrap over the patients of each
        domain, told by `patient_of`: images of one are no two witnesses. NaN
        where a domain has one patient.
    """

    value: float
    low: float
    high: float


def pooled(scores: Mapping[int, Dice]) -> Dice:
    """Mean over seeds, image by image; each seed may have validated on others."""
    found: dict[str, dict[str, list[float]]] = {}
    for of_seed in scores.values():
        for domain, images in of_seed.items():
            for name, dice in images.items():
                found.setdefault(domain, {}).setdefault(name, []).append(dice)
    return {
        domain: {name: float(np.mean(dice)) for name, dice in images.items()}
        for domain, images in found.items()
    }


def difference(dice: Dice, other: Dice) -> Dice:
    """Dice less that of another model, of the same images."""
    return {
        domain: {name: value - other[domain][name] for name, value in images.items()}
        for domain, images in dice.items()
    }


def means(scores: Dice, unseen: Sequence[str]) -> dict[str, float]:
    """Mean over the images of each domain, and over the `unseen` domains' means."""
    found = {domain: float(np.mean(list(images.values()))) for domain, images in scores.items()}
    if unseen:
        found[UNSEEN] = float(np.mean([found[domain] for domain in unseen]))
    return found


def estimates(dice: Dice, unseen: Sequence[str]) -> dict[str, Estimated]:
    """`means`, with their intervals."""
    patients = {domain: _patients(images) for domain, images in dice.items()}
    found = {domain: _estimated([each]) for domain, each in patients.items()}
    if unseen:
        found[UNSEEN] = _estimated([patients[domain] for domain in unseen])
    return found


def counted(dice: Dice) -> str:
    """How many images the figures are of, and where they are too few to trust an interval."""
    counts = {name: len(_patients(images).counts) for name, images in dice.items()}
    told = [
        f"{name} {len(images)}" + (f" (patients: {counts[name]})" * (counts[name] < len(images)))
        for name, images in dice.items()
    ]
    said = f"Images: {', '.join(told)}."
    if few := [name for name, count in counts.items() if count < _FEW]:
        said += f" So few as of {', '.join(few)} tell little, whatever their interval."
    if single := [name for name, count in counts.items() if count == 1]:
        said += f" Of the one patient of {', '.join(single)} none is known, nor of a mean with it."
    return said


class _Patients(NamedTuple):
    """Sum of Dice and count of images, both (P,), of each patient of a domain."""

    sums: NDArray[np.float64]
    counts: NDArray[np.float64]


def _patients(images: Mapping[str, float]) -> _Patients:
    grouped: dict[str, list[float]] = {}
    for name, value in images.items():
        grouped.setdefault(patient_of(name), []).append(value)
    groups = grouped.values()
    return _Patients(np.array([*map(sum, groups)], float), np.array([*map(len, groups)], float))


def _estimated(domains: Sequence[_Patients]) -> Estimated:
    """Mean over domains of their means, bootstrapped over the patients of each."""
    value = float(np.mean([sums.sum() / counts.sum() for sums, counts in domains]))
    if min(len(each.counts) for each in domains) < 2:
        return Estimated(value, float("nan"), float("nan"))
    random, drawn = np.random.default_rng(0), []
    for sums, counts in domains:
        chosen = random.integers(len(sums), size=(_DRAWS, len(sums)))
        drawn.append(sums[chosen].sum(1) / counts[chosen].sum(1))
    low, high = np.percentile(np.mean(drawn, axis=0), [2.5, 97.5])
    return Estimated(value, float(low), float(high))
