"""A volume becomes labels on the disk, portion by portion."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from src_training.inference.predictor import Predictor
from src_training.inference.volumes.label_store import LabelStore
from src_training.inference.volumes.segment import segment_portion
from src_training.inference.volumes.slabs import Slab


@dataclass(frozen=True)
class Grown:
    """Labels grew.

    Attributes
    ----------
    done, total
        Portions; averaging, where there is some, counts too.
    portion
        The one that was done last; None of a start that finds some done.
    """

    done: int
    total: int
    portion: Slab | None = None


def stream(predictor: Predictor, voxels: Any, growing: LabelStore) -> Iterator[Grown]:
    """Segment every portion that is left; closing the iterator stops after the present one.

    Peak memory does not depend on the number of planes: a portion, its
    labels, and a batch of tiles.

    Parameters
    ----------
    predictor
        Of the plan's model and options.
    voxels
        (Z, Y, X), any array that slices.
    growing
        Where the labels grow; what is done is not done again.

    Yields
    ------
    Grown
        At the start, and after every portion.

    Raises
    ------
    InputError
        If a plane cannot be read or segmented; finished portions are kept.
    OSError
        If the disk is full; likewise.
    """
    left, done = growing.left(), growing.done
    total = done + len(left) + len(growing.merging)
    yield Grown(done, total)
    for portion in left:
        growing.keep(portion, segment_portion(predictor, voxels, growing.plan, portion))
        done += 1
        yield Grown(done, total, portion)
    for number, portion in enumerate(growing.merge(), 1):
        yield Grown(done + number, total, portion)
