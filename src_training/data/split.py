"""Splitting a domain for training and validation, patients kept together."""

import re

import numpy as np

from src_training.data.domain import Domain
from src_training.data.slice_context import parse_slice_name
from src_training.errors import InputError

# 01L and 01R, left and right, OD and OS: two eyes of one patient.
_EYE = re.compile(r"(?P<patient>.*\d)[ _-]?(?:L|R|OD|OS|left|right)", re.IGNORECASE)


def patient_of(name: str) -> str:
    """The patient that the name of a case tells; the name itself if it tells none.

    Examples
    --------
    >>> [patient_of(name) for name in ("Image_01L", "10001_95", "ct_z012", "malignant_1")]
    ['Image_01', '10001', 'ct', 'malignant_1']
    """
    if match := _EYE.fullmatch(name):
        return match["patient"]
    parts = parse_slice_name(name)
    return name if parts is None or parts.joint == "-" else parts.volume


def split(
    domain: Domain, fraction: float, seed: int, by_patient: bool = True
) -> tuple[Domain, Domain]:
    """Split a domain at random, with foreground on both sides.

    A domain of few images is split as far as it can be: by patient; if only
    one patient has foreground, by image; if only one image has, all of it is
    on both sides. `split_note` says what came of it.

    Parameters
    ----------
    domain
        One without any foreground is on both sides, too.
    fraction
        Share of the cases that goes to validation, above 0 and below 1. At
        least one patient goes to either side, and validation starts with one
        that leaves most cases to train on, if there is one.
    seed
        The same seed gives the same split.
    by_patient
        Keep the cases of a patient, told by `patient_of`, on one side.

    Returns
    -------
    tuple of Domain
        Training and validation, each in the order of the domain.

    Raises
    ------
    InputError
        If the fraction is out of range.
    """
    if not 0 < fraction < 1:
        raise InputError(f"the validation fraction is {fraction:g}; expected above 0 and below 1")
    empty = set(domain.background_only())
    for group_of in (patient_of, str) if by_patient else (str,):
        groups: dict[str, list[str]] = {}
        for name in domain.names:
            groups.setdefault(group_of(name), []).append(name)
        seen = [group for group, names in groups.items() if not empty.issuperset(names)]
        if len(seen) > 1:
            return _parted(domain, groups, seen, fraction, np.random.default_rng(seed))
    return domain, domain


def split_note(training: Domain, validation: Domain) -> str:
    """What the scores on a validation split cannot tell, one sentence; empty if nothing."""
    shared = set(training.names) & set(validation.names)
    if shared:
        return (
            f"{training.name}: validation uses {_counted(len(shared), 'image')} that the networks "
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


def _parted(
    domain: Domain,
    groups: dict[str, list[str]],
    seen: list[str],
    fraction: float,
    random: np.random.Generator,
) -> tuple[Domain, Domain]:
    """Whole groups to either side; of those with foreground (`seen`), one at least to each."""
    order = list(groups)
    random.shuffle(order)
    candidates = [group for group in order if group in seen]
    fitting = [group for group in candidates if 2 * len(groups[group]) <= len(domain)]
    first = fitting[0] if fitting else min(candidates, key=lambda group: len(groups[group]))
    kept = next(group for group in reversed(candidates) if group != first)
    validation = set(groups[first])
    wanted = fraction * len(domain)
    for group in order:
        if group in (first, kept):
            continue
        # Half a patient too many is nearer to the fraction than half too few.
        if len(validation) + len(groups[group]) / 2 > wanted:
            break
        validation.update(groups[group])
    training = [name for name in domain.names if name not in validation]
    held_out = [name for name in domain.names if name in validation]
    return domain.subset(training), domain.subset(held_out)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
