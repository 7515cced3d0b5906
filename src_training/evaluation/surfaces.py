"""Distances between the surfaces of two masks, in two or three dimensions.

Both masks are bool arrays of the same shape with at least one true pixel each;
the distances to an empty mask are undefined, and callers have to handle that case.
The definitions are MONAI's: a surface is the
pixels of a mask with a neighbour outside it, along an axis.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from src_training.data.preprocessing.geometry import Mask

_ROUNDING = 1 + 1e-6
"""Factor on a tolerance for rounding errors of distances."""


class SurfaceDistances(NamedTuple):
    """Distances from every surface pixel of one mask to the surface of the other, (N,) float64.

    Attributes
    ----------
    of_predicted, of_true
        Distances of the surface pixels of the prediction, and of those of the mask.
    """

    of_predicted: NDArray[np.float64]
    of_true: NDArray[np.float64]


def surface_distances(predicted: Mask, true: Mask, spacing: Sequence[float]) -> SurfaceDistances:
    """Compute the distances between the surfaces of two masks.

    Parameters
    ----------
    predicted, true
        Masks of the same shape, each with a true pixel.
    spacing
        Size of a pixel along each axis; the unit of the distances.
    """
    # Cropping saves time for small organs in large volumes.
    box = _bounding_box(predicted | true)
    surfaces = _surface(predicted[box]), _surface(true[box])
    both = surfaces[0] & surfaces[1]
    points = [np.argwhere(surface) * np.asarray(spacing, np.float64) for surface in surfaces]
    results = []
    for index, other in ((0, 1), (1, 0)):
        differs = ~both[surfaces[index]]
        distances = np.zeros(differs.size)
        if differs.any():
            # Building an unbalanced tree takes half the time, and there is only one query.
            tree = cKDTree(points[other], leafsize=32, balanced_tree=False, compact_nodes=False)
            distances[differs] = tree.query(points[index][differs])[0]
        results.append(distances)
    return SurfaceDistances(*results)


def hausdorff95(distances: SurfaceDistances) -> float:
    """HD95, the larger of the 95th percentiles of the distances in both directions.

    Examples
    --------
    >>> true = np.zeros((40, 40), bool)
    >>> true[10:20, 10:20] = True
    >>> hausdorff95(surface_distances(np.roll(true, 3, axis=1), true, (1, 1)))
    3.0
    """
    return max(float(np.percentile(part, 95)) for part in distances)


def surface_dice(distances: SurfaceDistances, tolerance: float) -> float:
    """Share of both surfaces that lies within a tolerance of the other surface, in [0, 1].

    Nikolov et al. 2018, arXiv 1809.04430.

    Examples
    --------
    >>> true = np.zeros((40, 40), bool)
    >>> true[10:20, 10:20] = True
    >>> surface_dice(surface_distances(np.roll(true, 3, axis=1), true, (1, 1)), tolerance=3)
    1.0
    """
    return float((np.concatenate(distances) <= tolerance * _ROUNDING).mean())


def average_surface_distance(distances: SurfaceDistances) -> float:
    """ASSD, the average symmetric surface distance.

    Examples
    --------
    >>> true = np.zeros((8, 8), bool)
    >>> true[2:6, 2:6] = True
    >>> average_surface_distance(surface_distances(true, true, (1, 1)))
    0.0
    """
    return float(np.concatenate(distances).mean())


def _surface(mask: Mask) -> Mask:
    """Pixels of a mask with a neighbour outside it, which includes neighbours beyond the array."""
    padded = np.pad(mask, 1)
    inner = mask.copy()
    for axis in range(mask.ndim):
        for start in (0, 2):
            part = [slice(1, -1)] * mask.ndim
            part[axis] = slice(start, start + mask.shape[axis])
            inner &= padded[tuple(part)]
    return np.asarray(mask & ~inner, np.bool_)


def _bounding_box(mask: Mask) -> tuple[slice, ...]:
    """The bounding box of a mask."""
    box = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        positions = np.flatnonzero(mask.any(axis=others))
        box.append(slice(int(positions[0]), int(positions[-1]) + 1))
    return tuple(box)
