"""Distances between the surfaces of two masks, in two or three dimensions.

Both masks are bool arrays of one shape with at least one true pixel each;
where one of them is empty the distances are not defined, and it is for the
caller to say what that means. The definitions are MONAI's: a surface is the
pixels of a mask with a neighbour outside it, along an axis.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from src_training.data.preprocessing.geometry import Mask

_ROUNDING = 1 + 1e-6
"""Distances are products and roots, a tolerance is a decimal number."""


class SurfaceDistances(NamedTuple):
    """Distances from every surface pixel of one mask to the surface of the other, (N,) float64.

    Attributes
    ----------
    of_predicted, of_true
        From the surface of the prediction, and from that of the mask.
    """

    of_predicted: NDArray[np.float64]
    of_true: NDArray[np.float64]


def surface_distances(predicted: Mask, true: Mask, spacing: Sequence[float]) -> SurfaceDistances:
    """The distances that all scores of surfaces are made of.

    Parameters
    ----------
    predicted, true
        Masks of one shape, each with a true pixel.
    spacing
        Size of a pixel along each axis; the unit of the distances.
    """
    # Cropped first: a volume need not be searched whole for a small organ.
    box = _bounding_box(predicted | true)
    surfaces = _surface(predicted[box]), _surface(true[box])
    both = surfaces[0] & surfaces[1]
    points = [np.argwhere(surface) * np.asarray(spacing, np.float64) for surface in surfaces]
    found = []
    for own, other, surface in ((0, 1, surfaces[0]), (1, 0, surfaces[1])):
        apart = ~both[surface]
        distances = np.zeros(apart.size)
        if apart.any():
            # A tree of unbalanced boxes takes half the time to build; one query follows.
            tree = cKDTree(points[other], leafsize=32, balanced_tree=False, compact_nodes=False)
            distances[apart] = tree.query(points[own][apart])[0]
        found.append(distances)
    return SurfaceDistances(*found)


def hausdorff95(distances: SurfaceDistances) -> float:
    """HD95: the larger of the two 95th percentiles of the surface distances.

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
    """ASSD: the mean distance of both surfaces from each other (symmetric).

    Examples
    --------
    >>> true = np.zeros((8, 8), bool)
    >>> true[2:6, 2:6] = True
    >>> average_surface_distance(surface_distances(true, true, (1, 1)))
    0.0
    """
    return float(np.concatenate(distances).mean())


def _surface(mask: Mask) -> Mask:
    """The pixels of a mask with a neighbour outside it; all is outside beyond the array."""
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
