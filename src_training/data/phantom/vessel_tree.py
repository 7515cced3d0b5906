"""Synthetic retinal vessel trees: space colonization, radii by Murray's law.

Coordinates are degrees of visual angle (x temporal to nasal, y upwards, the
fovea at the origin), as (N, 2) float64 arrays of (x, y).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial import cKDTree

Points = NDArray[np.float64]
Indices = NDArray[np.intp]

STEP = 0.35
"""Length of a segment of a growing vessel, degrees."""


@dataclass(frozen=True, eq=False)
class VesselTree:
    """Arteries or veins of one eye.

    Attributes
    ----------
    points
        (N, 2) nodes, degrees.
    parent
        (N,) index of the next node towards the root, -1 for a root. Parents
        come before their children; each has at most two children.
    radius
        (N,) radius of the vessel between a node and its parent, degrees. At a
        branching r0^3 = r1^3 + r2^3 (Murray, 1926); along a branch it is constant.
    """

    points: Points
    parent: Indices
    radius: NDArray[np.float64]

    def samples(self, spacing: float) -> tuple[Points, NDArray[np.float64]]:
        """Sample points along every vessel, `spacing` degrees apart, and their radii."""
        child = np.flatnonzero(self.parent >= 0)
        start, end = self.points[self.parent[child]], self.points[child]
        count = np.maximum(1, np.ceil(np.linalg.norm(end - start, axis=1) / spacing)).astype(int)
        segment = np.repeat(np.arange(len(child)), count)
        first = np.repeat(np.cumsum(count) - count, count)
        along = ((np.arange(len(segment)) - first + 1) / count[segment])[:, None]
        points = start[segment] * (1 - along) + end[segment] * along
        return points, self.radius[child][segment]


def grow_tree(
    trunks: Sequence[Points],
    targets: Sequence[Points],
    disc: Points,
    leaf_radius: float,
    rng: np.random.Generator,
) -> VesselTree:
    """Grow a tree from its trunks to the targets (*reconstruction*).

    Space colonization (Runions et al., 2007): each target attracts the nearest
    node, and each attracted node grows a step towards the targets that attract
    it. Reached targets are removed. Coarse targets come first, so that long
    vessels form before fine ones.

    Parameters
    ----------
    trunks
        Initial polylines (n, 2).
    targets
        Sets (m, 2) of targets, coarse to fine.
    disc
        (2,) centre of the optic disc, which vessels grow away from.
    leaf_radius
        Radius of the finest vessels, degrees.
    rng
        Random generator of the tortuosity.
    """
    points = np.concatenate(trunks)
    parent = np.arange(-1, len(points) - 1)
    parent[np.cumsum([0, *(len(trunk) for trunk in trunks[:-1])])] = -1
    for level in targets:
        points, parent = _colonize(points, parent, level, disc)
    points = _add_tortuosity(_smooth_paths(points, parent), rng)
    return VesselTree(points, parent, murray_radii(parent, leaf_radius))


def murray_radii(parent: Indices, leaf_radius: float) -> NDArray[np.float64]:
    """Compute the radius (N,) of each node by Murray's law, r0^3 = r1^3 + r2^3.

    Examples
    --------
    >>> import numpy as np
    >>> radii = murray_radii(np.array([-1, 0, 0]), leaf_radius=1.0)
    >>> (radii**3).round(6).tolist()
    [2.0, 1.0, 1.0]
    """
    cubes = np.zeros(len(parent))
    for node in range(len(parent) - 1, -1, -1):
        cubes[node] = cubes[node] or leaf_radius**3
        if parent[node] >= 0:
            cubes[parent[node]] += cubes[node]
    return np.asarray(np.cbrt(cubes))


def scatter_targets(
    spacing: float, centre: Points, radius: float, rng: np.random.Generator
) -> Points:
    """Draw targets (m, 2) in a circle: a jittered hexagonal grid without the fovea.

    The foveal avascular zone has a radius of 1.7 degrees.
    """
    count = int(np.ceil(radius / spacing)) + 1
    column, row = np.meshgrid(np.arange(-count, count + 1.0), np.arange(-count, count + 1.0))
    grid = np.stack([column + 0.5 * (row % 2), row * 0.866], axis=-1).reshape(-1, 2) * spacing
    points = centre + grid + rng.normal(0, 0.28 * spacing, grid.shape)
    inside = np.linalg.norm(points - centre, axis=1) < radius
    return np.asarray(points[inside & (np.linalg.norm(points, axis=1) > 1.7)])


def _colonize(
    points: Points, parent: Indices, targets: Points, disc: Points
) -> tuple[Points, Indices]:
    """Grow a tree until its targets are reached."""
    children = np.bincount(parent[parent >= 0], minlength=len(points))
    distance, nearest = _nearest(points, targets)
    apart, _ = cKDTree(targets).query(targets, k=[2])
    spacing = float(np.median(apart))
    reach = 0.45 * spacing
    remaining = distance > reach
    for _ in range(150):
        tips, attracted_by = np.unique(nearest[remaining], return_inverse=True)
        free = children[tips] < 2
        if not free.any():
            break
        attraction = np.zeros((len(tips), 2))
        np.add.at(attraction, attracted_by, _unit(targets[remaining] - points[nearest[remaining]]))
        tips, attraction = tips[free], attraction[free]
        new = points[tips] + STEP * _growth_direction(
            points, parent, children, tips, attraction, disc
        )
        parent = np.concatenate([parent, tips])
        children = np.concatenate([children, np.zeros(len(tips), int)])
        children[tips] += 1
        closer, index = _nearest(new, targets)
        better = closer < distance
        distance = np.where(better, closer, distance)
        nearest = np.where(better, len(points) + index, nearest)
        points = np.concatenate([points, new])
        remaining &= distance > reach
    return points, parent


def _nearest(points: Points, targets: Points) -> tuple[NDArray[np.float64], Indices]:
    """Distance from each target to the nearest point, and the index of that point."""
    distance, index = cKDTree(points).query(targets, k=[1])
    return np.ravel(distance), np.ravel(index)


def _growth_direction(
    points: Points,
    parent: Indices,
    children: NDArray[np.int_],
    tips: Indices,
    attraction: Points,
    disc: Points,
) -> Points:
    """Growth directions of tips: towards their targets, straight on, and away from the disc."""
    before = np.where(parent[tips] >= 0, parent[tips], tips)
    straight_on = _unit(points[tips] - points[before])
    away = _unit(points[tips] - disc)
    # More inertia for tips, which grow straight on; branches leave their vessel at an acute angle.
    inertia = np.where(children[tips] == 0, 1.3, 0.9)[:, None]
    return _unit(_unit(attraction) + inertia * straight_on + 0.25 * away)


def _smooth_paths(points: Points, parent: Indices) -> Points:
    """Smooth the vessels; roots and ends stay in place."""
    inner = parent >= 0
    inner &= np.bincount(parent[inner], minlength=len(parent)) > 0
    with_parent = np.flatnonzero(parent >= 0)
    for _ in range(4):
        total, count = np.zeros_like(points), np.zeros(len(points))
        np.add.at(total, parent[with_parent], points[with_parent])
        np.add.at(count, parent[with_parent], 1)
        ahead = total / np.maximum(count, 1)[:, None]
        middle = (points + 0.5 * (points[parent] + ahead)) / 2
        points = np.where(inner[:, None], middle, points)
    return points


def _add_tortuosity(points: Points, rng: np.random.Generator) -> Points:
    """Bend the vessels by a smooth random displacement field, which preserves crossings."""
    cell, span = 0.5, 96
    displacement = np.zeros_like(points)
    grid = (points / cell + span).T
    for wavelength, amplitude in ((0.8, 0.14), (1.8, 0.34), (4.5, 0.45)):
        for axis in (0, 1):
            field = gaussian_filter(rng.normal(size=(2 * span, 2 * span)), wavelength / cell)
            field *= amplitude / field.std()
            displacement[:, axis] += map_coordinates(field, grid, order=1, mode="nearest")
    return points + displacement


def _unit(vectors: Points) -> Points:
    """Normalise vectors (N, 2) to length 1; vectors of length 0 remain 0."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(length, 1e-9))
