"""A domain of two small images: one has two patches of 32 pixels, the other one."""

import numpy as np

from src_training.data.domain import Domain
from src_training.explore.extraction import extract


def domain(name="scans", masks=True, fovs=None, seed=0):
    random = np.random.default_rng(seed)
    images = [random.random((70, 40)), random.random((20, 33))]
    labels = [(image > 0.5).astype(np.uint8) for image in images] if masks else None
    return Domain.from_arrays(name, images, labels, fovs, names=["tall", "small"])


def extracted(*arguments, **options):
    """The table of a whole extraction."""
    *_, last = extract(*arguments, **options)
    return last.table
