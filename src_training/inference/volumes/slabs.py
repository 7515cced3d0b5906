"""How a volume falls into portions: what is read, segmented and written at a time."""

from dataclasses import dataclass

import numpy as np

_VOXELS = 2**24
"""Most voxels of a portion: 64 MB of float32."""

_SIDE = 256

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Slab:
    """Some successive planes of a volume.

    Attributes
    ----------
    axis
        The axis of (Z, Y, X) that the planes follow.
    start, stop
        The first plane, and the one after the last.
    """

    axis: int
    start: int
    stop: int

    @property
    def region(self) -> tuple[slice, ...]:
        """Where it lies in the volume."""
        return (slice(None),) * self.axis + (slice(self.start, self.stop),)

    def with_neighbours(self, neighbours: int, length: int) -> tuple[tuple[slice, ...], int]:
        """Where it lies with the planes that its outermost ones look at, and how many come before.

        Parameters
        ----------
        neighbours
            See `Preprocessing.neighbours`.
        length
            Planes of the volume along the axis.
        """
        first = max(0, self.start - neighbours // 2)
        last = min(length, self.stop + neighbours // 2)
        return (slice(None),) * self.axis + (slice(first, last),), self.start - first


def slabs_of(shape: Shape, axis: int) -> list[Slab]:
    """All portions of a volume along an axis, in order."""
    count = planes_each(shape, axis)
    length = shape[axis]
    return [Slab(axis, at, min(length, at + count)) for at in range(0, length, count)]


def planes_each(shape: Shape, axis: int) -> int:
    """Planes of a portion: it does not grow with the number of planes."""
    plane = int(np.prod(shape, dtype=np.int64)) // shape[axis]
    return max(1, min(shape[axis], 64, _VOXELS // plane))


def chunks(shape: Shape, axis: int) -> Shape:
    """Chunks of an array that is written portion by portion: none is shared by two of them."""
    sides = [min(side, _SIDE) for side in shape]
    sides[axis] = planes_each(shape, axis)
    z, y, x = sides
    return z, y, x
