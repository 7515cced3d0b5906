"""What segmenting a volume will cost, from a few real planes."""

import time
from dataclasses import dataclass
from statistics import median
from typing import Any

from src_training.inference.predictor import Predictor
from src_training.inference.volumes.job import Plan
from src_training.inference.volumes.segment import segment_portion
from src_training.inference.volumes.slabs import Slab

_TRIED = 2


@dataclass(frozen=True)
class VolumeEstimate:
    """The cost of a volume.

    Attributes
    ----------
    seconds
        On this machine, in one process.
    disk
        Bytes at most, before compression.
    """

    seconds: float
    disk: int


def estimate_volume(predictor: Predictor, voxels: Any, plan: Plan) -> VolumeEstimate:
    """Try two planes in the middle of each axis of the plan.

    Raises
    ------
    InputError
        If a plane cannot be read or segmented.
    """
    seconds = 0.0
    for axis in plan.axes:
        length, took = plan.shape[axis], []
        for plane in range(length // 2, min(length, length // 2 + _TRIED)):
            began = time.perf_counter()
            segment_portion(predictor, voxels, plan, Slab(axis, plane, plane + 1))
            took.append(time.perf_counter() - began)
        # The first pass of a network over a new size takes longer than those that follow.
        seconds += length * min(median(took), took[-1])
    return VolumeEstimate(seconds, plan.disk)
