"""Slabs: runs of slices of a volume that are read, segmented and written at a time."""

from dataclasses import dataclass

import numpy as np

SLAB_VOXELS = 2**24
"""Most voxels of a slab: 64 MB of float32."""

SLAB_SLICES = 16
"""Most slices of a slab: few, so that several processes end at about the same time."""

_CHUNK_SIDE = 256

Shape = tuple[int, int, int]
"""(Z, Y, X)."""


@dataclass(frozen=True)
class Slab:
    """Consecutive slices of a volume.

    Attributes
    ----------
    axis
        The axis of (Z, Y, X) along which the slices follow each other.
    start, stop
        The first slice, and the one after the last.
    """

    axis: int
    start: int
    stop: int

    @property
    def region(self) -> tuple[slice, ...]:
        """Index of the slab in the volume."""
        return (slice(None),) * self.axis + (slice(self.start, self.stop),)

    def with_neighbours(self, neighbours: int, length: int) -> tuple[tuple[slice, ...], int]:
        """Index of the slab with the neighbours of its slices, and how many come before it.

        Parameters
        ----------
        neighbours
            Slices that the network takes at once; see `ScaledPreprocessing`.
        length
            Slices of the volume along the axis.

        Examples
        --------
        >>> Slab(0, 4, 8).with_neighbours(3, length=9)
        ((slice(3, 9, None),), 1)
        """
        first = max(0, self.start - neighbours // 2)
        last = min(length, self.stop + neighbours // 2)
        return (slice(None),) * self.axis + (slice(first, last),), self.start - first


def slabs_along(shape: Shape, axis: int, slices: int | None = None) -> list[Slab]:
    """All slabs of a volume along an axis, in order, of `slices_per_slab` or other `slices`.

    Examples
    --------
    >>> [(slab.start, slab.stop) for slab in slabs_along((40, 512, 512), 0)]
    [(0, 16), (16, 32), (32, 40)]
    """
    count, length = slices or slices_per_slab(shape, axis), shape[axis]
    return [Slab(axis, at, min(length, at + count)) for at in range(0, length, count)]


def slices_per_slab(shape: Shape, axis: int) -> int:
    """Slices of a slab, such that it has at most `SLAB_VOXELS`, however long the volume is."""
    per_slice = int(np.prod(shape, dtype=np.int64)) // shape[axis]
    return max(1, min(shape[axis], SLAB_SLICES, SLAB_VOXELS // per_slice))


def chunk_shape(shape: Shape, axis: int) -> Shape:
    """Chunks of an array that is written slab by slab: no two slabs share one."""
    sides = [min(side, _CHUNK_SIDE) for side in shape]
    sides[axis] = slices_per_slab(shape, axis)
    z, y, x = sides
    return z, y, x
