"""Confidence intervals of mean scores by a bootstrap over patients.

Images of one patient (two eyes, the slices of a volume) are not independent,
so the bootstrap draws patients, not images. The names of images identify
patients, see `patient_of`; an image whose name contains no patient counts as
its own patient.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from src_training.data.split import patient_of

Array = NDArray[np.float64]

_DRAWS, _SEED = 2000, 0


@dataclass(frozen=True)
class Estimate:
    """A mean score and its confidence interval.

    Attributes
    ----------
    value
        Mean score.
    low, high
        95 % interval, percentiles of the bootstrap; NaN if a domain has
        only one patient.
    """

    value: float
    low: float
    high: float


def bootstrap_by_patient(domains: Sequence[Mapping[str, float]]) -> Estimate:
    """Mean over domains of the mean over their images, with a bootstrap over patients.

    Parameters
    ----------
    domains
        For each domain, image name -> finite score. Patients of each domain are drawn 2,000
        times with replacement, with all their images. The
        draws are the same in every call.

    Examples
    --------
    >>> estimate = bootstrap_by_patient([{"01L": 0.8, "01R": 0.8, "02L": 0.6, "03L": 0.7}])
    >>> round(estimate.value, 3), estimate.low < estimate.value < estimate.high
    (0.725, True)
    >>> bootstrap_by_patient([{"01L": 0.8, "01R": 0.6}])  # two eyes of one patient
    Estimate(value=0.7, low=nan, high=nan)
    """
    patients = [_sums_and_counts(images) for images in domains]
    value = float(np.mean([sums.sum() / counts.sum() for sums, counts in patients]))
    if min(len(counts) for _, counts in patients) < 2:
        return Estimate(value, math.nan, math.nan)
    random, means = np.random.default_rng(_SEED), []
    for sums, counts in patients:
        drawn = random.integers(len(sums), size=(_DRAWS, len(sums)))
        means.append(sums[drawn].sum(1) / counts[drawn].sum(1))
    low, high = np.percentile(np.mean(means, axis=0), [2.5, 97.5])
    return Estimate(value, float(low), float(high))


def count_patients(names: Iterable[str]) -> int:
    """Number of patients of images with these names.

    Examples
    --------
    >>> count_patients(["Image_01L", "Image_01R", "Image_02L"])
    2
    """
    return len({patient_of(name) for name in names})


def _sums_and_counts(images: Mapping[str, float]) -> tuple[Array, Array]:
    """Sum of scores and number of images of each patient, both (P,)."""
    by_patient: dict[str, list[float]] = {}
    for name, score in images.items():
        by_patient.setdefault(patient_of(name), []).append(score)
    groups = by_patient.values()
    return np.array([*map(sum, groups)], float), np.array([*map(len, groups)], float)
