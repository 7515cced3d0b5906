"""Dice of a comparison: pooled over seeds, and how far to trust its means."""

from collections.abc import Mapping, Sequence

import numpy as np

from src_training.evaluation.bootstrap import Estimate, bootstrap_by_patient, count_patients

UNSEEN = "mean of unseen"

Dice = dict[str, dict[str, float]]
"""Domain -> Dice of each image, by its name."""

_FEW = 5


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


def estimates(dice: Dice, unseen: Sequence[str]) -> dict[str, Estimate]:
    """`means`, with their intervals."""
    estimated = {domain: bootstrap_by_patient([images]) for domain, images in dice.items()}
    if unseen:
        estimated[UNSEEN] = bootstrap_by_patient([dice[domain] for domain in unseen])
    return estimated


def counted(dice: Dice) -> str:
    """How many images the figures are of, and where they are too few to trust an interval."""
    counts = {name: count_patients(images) for name, images in dice.items()}
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
