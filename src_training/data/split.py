"""Split of a domain into training and validation cases by patient."""

import re

import numpy as np

from src_training.data.domain import Domain
from src_training.data.slice_context import parse_slice_name
from src_training.errors import InputError

# 01L and 01R, left and right, OD and OS: two eyes of one patient.
_EYE = re.compile(r"(?P<patient>.*\d)[ _-]?(?:L|R|OD|OS|left|right)", re.IGNORECASE)


def patient_of(name: str) -> str:
    """Return the patient part of a case's name; the whole name if there is none.

    Examples
    --------
    >>> [patient_of(name) for name in ("Image_01L", "10001_95", "ct_z012", "malignant_1")]
    ['Image_01', '10001', 'ct', 'malignant_1']
    """
    if match := _EYE.fullmatch(name):
        return match["patient"]
    parts = parse_slice_name(name)
    return name if parts is None or parts.joint == "-" else parts.volume


def split(domain: Domain, fraction: float, seed: int) -> tuple[Domain, Domain]:
    """Split a domain at random, with foreground on both sides.

    The cases of a patient (`patient_of`) stay together. If only one patient has
    foreground, the split is by image. If at most one image has foreground, both
    sides are the whole domain. `split_note` describes the effect on scores.

    Parameters
    ----------
    domain
        Domain to split.
    fraction
        Share of the cases for validation, above 0 and below 1. Each side has at
        least one patient. The first patient of the validation has at most half of
        the cases, if possible.
    seed
        Seed of the split.

    Returns
    -------
    tuple of Domain
        Training and validation, each in the order of the domain.

    Raises
    ------
    InputError
        If the fraction is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> names = ["01L", "01R", "02L", "02R"]
    >>> images, masks = [np.ones((2, 2))] * 4, [np.eye(2, dtype=int)] * 4
    >>> eyes = Domain.from_arrays("eyes", images, masks, names=names)
    >>> training, validation = split(eyes, 0.5, seed=0)
    >>> training.names, validation.names
    (('02L', '02R'), ('01L', '01R'))
    """
    if not 0 < fraction < 1:
        raise InputError(f"the validation fraction is {fraction:g}; expected above 0 and below 1")
    empty = set(domain.background_only())
    for group_of in (patient_of, str):
        groups: dict[str, list[str]] = {}
        for name in domain.names:
            groups.setdefault(group_of(name), []).append(name)
        painted = [group for group, names in groups.items() if not empty.issuperset(names)]
        if len(painted) > 1:
            return _split_groups(domain, groups, painted, fraction, np.random.default_rng(seed))
    return domain, domain


def split_note(training: Domain, validation: Domain) -> str:
    """Describe in one sentence why scores on a validation split may be too good; empty if not."""
    shared = set(training.names) & set(validation.names)
    if shared:
        return (
            f"{training.name}: validation uses {_count(len(shared), 'image')} that the networks "
            "learn from, so its scores are too good; they tell learning, not how well new images do"
        )
    patients = {patient_of(name) for name in training.names}
    both = sorted({patient_of(name) for name in validation.names} & patients)
    if both:
        return (
            f"{training.name}: images of {both[0]} are in training and in validation, so its "
            "scores may be a little too good for images of other patients"
        )
    return ""


def _split_groups(
    domain: Domain,
    groups: dict[str, list[str]],
    painted: list[str],
    fraction: float,
    random: np.random.Generator,
) -> tuple[Domain, Domain]:
    """Split by whole groups, with at least one group with foreground (`painted`) on each side."""
    order = list(groups)
    random.shuffle(order)
    candidates = [group for group in order if group in painted]
    fitting = [group for group in candidates if 2 * len(groups[group]) <= len(domain)]
    first = fitting[0] if fitting else min(candidates, key=lambda group: len(groups[group]))
    first_training = next(group for group in reversed(candidates) if group != first)
    validation = set(groups[first])
    wanted = fraction * len(domain)
    for group in order:
        if group in (first, first_training):
            continue
        # Add a group only if that brings the share closer to the fraction.
        if len(validation) + len(groups[group]) / 2 > wanted:
            break
        validation.update(groups[group])
    training = [name for name in domain.names if name not in validation]
    held_out = [name for name in domain.names if name in validation]
    return domain.subset(training), domain.subset(held_out)


def _count(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
