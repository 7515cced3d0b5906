"""Splitting a domain for training and validation, patients kept together."""

import re

import numpy as np

from src_training.data.domain import Domain
from src_training.errors import InputError

# 01L and 01R, left and right, OD and OS: two eyes of one patient.
_EYE = re.compile(r"(?P<patient>.*\d)[ _-]?(?:L|R|OD|OS|left|right)", re.IGNORECASE)
# 10001_95: a slice of a patient; "malignant_1" is none, its prefix has no number.
_SLICE = re.compile(r"(?P<patient>.*\d.*)_\d+")


def patient_of(name: str) -> str:
    """The patient that the name of a case tells; the name itself if it tells none.

    Examples
    --------
    >>> patient_of("Image_01L"), patient_of("10001_95"), patient_of("malignant_1")
    ('Image_01', '10001', 'malignant_1')
    """
    match = _EYE.fullmatch(name) or _SLICE.fullmatch(name)
    return match["patient"] if match else name


def split(
    domain: Domain, fraction: float, seed: int, by_patient: bool = True
) -> tuple[Domain, Domain]:
    """Split a domain at random.

    Parameters
    ----------
    fraction
        Share of the cases that goes to validation, above 0 and below 1. At
        least one patient goes to either side.
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
        If the fraction is out of range, or there are fewer than two patients.
    """
    if not 0 < fraction < 1:
        raise InputError(f"the validation fraction is {fraction:g}; expected above 0 and below 1")
    groups: dict[str, list[str]] = {}
    for name in domain.names:
        groups.setdefault(patient_of(name) if by_patient else name, []).append(name)
    if len(groups) < 2:
        raise InputError(
            f"domain {domain.name} has {len(domain)} cases of {len(groups)} patient; "
            "expected two patients or more to split"
        )
    patients = list(groups)
    np.random.default_rng(seed).shuffle(patients)
    validation = set(groups[patients[0]])
    wanted = fraction * len(domain)
    for patient in patients[1:-1]:
        # Half a patient too many is nearer to the fraction than half too few.
        if len(validation) + len(groups[patient]) / 2 > wanted:
            break
        validation.update(groups[patient])
    training = [name for name in domain.names if name not in validation]
    held_out = [name for name in domain.names if name in validation]
    return domain.subset(training), domain.subset(held_out)
