"""Estimate of the cost of segmenting a volume, from a few of its slices."""

import time
from dataclasses import dataclass
from statistics import median
from typing import Any

from src_training.inference.predictor import Predictor
from src_training.inference.volumes.job import VolumeJob
from src_training.inference.volumes.segment import segment_slab
from src_training.inference.volumes.slabs import Slab

_SLICES = 2


@dataclass(frozen=True)
class VolumeEstimate:
    """Estimated cost of segmenting a volume.

    Attributes
    ----------
    seconds
        Time on this machine with one process.
    disk
        Maximum size on the disk in bytes, before compression.
    """

    seconds: float
    disk: int


def estimate_volume(predictor: Predictor, voxels: Any, job: VolumeJob) -> VolumeEstimate:
    """Segment two slices in the middle of each axis of a job, and extrapolate.

    Raises
    ------
    InputError
        If a slice cannot be read or segmented.
    """
    seconds = 0.0
    for axis in job.axes:
        length, times = job.shape[axis], []
        for index in range(length // 2, min(length, length // 2 + _SLICES)):
            start = time.perf_counter()
            segment_slab(predictor, voxels, job, Slab(axis, index, index + 1))
            times.append(time.perf_counter() - start)
        # The first forward pass at a new size takes longer than later ones.
        seconds += length * min(median(times), times[-1])
    return VolumeEstimate(seconds, job.disk)
