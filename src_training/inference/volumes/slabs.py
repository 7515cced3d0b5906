"""Slabs: consecutive slices of a volume that are read, segmented and written together."""

from dataclasses import dataclass

import numpy as np

SLAB_VOXELS = 2**24
"""Maximum number of voxels of a slab: 64 MB of float32."""

SLAB_SLICES = 16
"""Maximum number of slices of a slab; small, so that several processes end at similar times."""

_CHUNK_SIDE = 256

Shape = tuple[int, int, int]
"""(Z, Y, X)."""


@dataclass(frozen=True)
class Slab:
    """Consecutive slices of a volume.

    Attributes
    ----------
    axis
        Axis of (Z, Y, X) along which slices are taken.
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
        """Index of the slab with the neighbours of its slices, and the number of those before it.

        Parameters
        ----------
        neighbours
            Number of slices of a network's input; see `ScaledPreprocessing`.
        length
            Number of slices of the volume along the axis.

        Examples
        --------
        >>> Slab(0, 4, 8).with_neighbours(3, length=9)
        ((slice(3, 9, None),), 1)
        """
        first = max(0, self.start - neighbours // 2)
        last = min(length, self.stop + neighbours // 2)
        return (slice(None),) * self.axis + (slice(first, last),), self.start - first


def slabs_along(shape: Shape, axis: int, slices: int | None = None) -> list[Slab]:
    """Return all slabs of a volume along an axis, of `slices` or `slices_per_slab` slices each.

    Examples
    --------
    >>> [(slab.start, slab.stop) for slab in slabs_along((40, 512, 512), 0)]
    [(0, 16), (16, 32), (32, 40)]
    """
    count, length = slices or slices_per_slab(shape, axis), shape[axis]
    return [Slab(axis, at, min(length, at + count)) for at in range(0, length, count)]


def slices_per_slab(shape: Shape, axis: int) -> int:
    """Return the number of slices of a slab, limited by `SLAB_SLICES` and `SLAB_VOXELS`."""
    per_slice = int(np.prod(shape, dtype=np.int64)) // shape[axis]
    return max(1, min(shape[axis], SLAB_SLICES, SLAB_VOXELS // per_slice))


def chunk_shape(shape: Shape, axis: int) -> Shape:
    """Return the chunk shape of an array written slab by slab, such that slabs share no chunk."""
    sides = [min(side, _CHUNK_SIDE) for side in shape]
    sides[axis] = slices_per_slab(shape, axis)
    z, y, x = sides
    return z, y, x
