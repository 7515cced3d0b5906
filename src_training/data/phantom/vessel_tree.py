"""Synthetic retinal vessel trees: growth into free retina, calibres by Murray's law.

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
"""Length of a grown segment, degrees."""


@dataclass(frozen=True, eq=False)
class VesselTree:
    """Arteries or veins of one eye.

    Attributes
    ----------
    points
        (N, 2) nodes, degrees.
    parent
        (N,) index of the node nearer to the heart of the tree, -1 for a root;
        every parent comes before its children, and has two at most.
    radius
        (N,) of the vessel that arrives at the node, degrees. At a branching
        r0^3 = r1^3 + r2^3 (Murray, 1926); along a branch it is constant.
    """

    points: Points
    parent: Indices
    radius: NDArray[np.float64]

    def samples(self, spacing: float) -> tuple[Points, NDArray[np.float64]]:
        """Points along every vessel, `spacing` degrees apart, and their radii."""
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
    """Grow a tree from its trunks into the free retina (*reconstruction*).

    Space colonization (Runions et al., 2007): each target pulls the nearest
    node, which grows a step towards the targets it feels; a target that is
    reached is gone. Coarse targets come first, so that long vessels form
    before fine ones.

    Parameters
    ----------
    trunks
        Polylines (n, 2) to start from.
    targets
        Sets (m, 2) of targets, coarse to fine.
    disc
        (2,) centre of the optic disc, from which vessels run away.
    leaf_radius
        Of the finest vessels, degrees.

    Returns
    -------
    VesselTree
    """
    points = np.concatenate(trunks)
    parent = np.arange(-1, len(points) - 1)
    parent[np.cumsum([0, *(len(trunk) for trunk in trunks[:-1])])] = -1
    for level in targets:
        points, parent = _colonize(points, parent, level, disc)
    points = _tortuous(_smooth(points, parent), rng)
    return VesselTree(points, parent, murray_radii(parent, leaf_radius))


def murray_radii(parent: Indices, leaf_radius: float) -> NDArray[np.float64]:
    """Radii (N,) from the leaves to the roots: the cubes of the children add up."""
    cubes = np.zeros(len(parent))
    for node in range(len(parent) - 1, -1, -1):
        cubes[node] = cubes[node] or leaf_radius**3
        if parent[node] >= 0:
            cubes[parent[node]] += cubes[node]
    return np.asarray(np.cbrt(cubes))


def scattered(spacing: float, centre: Points, radius: float, rng: np.random.Generator) -> Points:
    """Targets in a circle, on a jittered hexagonal grid, outside the foveal avascular zone."""
    count = int(np.ceil(radius / spacing)) + 1
    column, row = np.meshgrid(np.arange(-count, count + 1.0), np.arange(-count, count + 1.0))
    grid = np.stack([column + 0.5 * (row % 2), row * 0.866], axis=-1).reshape(-1, 2) * spacing
    points = centre + grid + rng.normal(0, 0.28 * spacing, grid.shape)
    inside = np.linalg.norm(points - centre, axis=1) < radius
    return np.asarray(points[inside & (np.linalg.norm(points, axis=1) > 1.7)])


def _colonize(
    points: Points, parent: Indices, targets: Points, disc: Points
) -> tuple[Points, Indices]:
    children = np.bincount(parent[parent >= 0], minlength=len(points))
    distance, nearest = _nearest(points, targets)
    apart, _ = cKDTree(targets).query(targets, k=[2])
    spacing = float(np.median(apart))
    reach = 0.45 * spacing
    alive = distance > reach
    for _ in range(150):
        tips, pulled = np.unique(nearest[alive], return_inverse=True)
        free = children[tips] < 2
        if not free.any():
            break
        pull = np.zeros((len(tips), 2))
        np.add.at(pull, pulled, _unit(targets[alive] - points[nearest[alive]]))
        tips, pull = tips[free], pull[free]
        new = points[tips] + STEP * _heading(points, parent, children, tips, pull, disc)
        parent = np.concatenate([parent, tips])
        children = np.concatenate([children, np.zeros(len(tips), int)])
        children[tips] += 1
        closer, which = _nearest(new, targets)
        better = closer < distance
        distance = np.where(better, closer, distance)
        nearest = np.where(better, len(points) + which, nearest)
        points = np.concatenate([points, new])
        alive &= distance > reach
    return points, parent


def _nearest(points: Points, targets: Points) -> tuple[NDArray[np.float64], Indices]:
    """Distance from each target to the nearest point, and which that is."""
    distance, which = cKDTree(points).query(targets, k=[1])
    return np.ravel(distance), np.ravel(which)


def _heading(
    points: Points,
    parent: Indices,
    children: NDArray[np.int_],
    tips: Indices,
    pull: Points,
    disc: Points,
) -> Points:
    """Where a tip grows: to its targets, onwards, and away from the disc."""
    before = np.where(parent[tips] >= 0, parent[tips], tips)
    onwards = _unit(points[tips] - points[before])
    away = _unit(points[tips] - disc)
    # A tip keeps its course; a sprout leaves its vessel at an acute angle.
    inertia = np.where(children[tips] == 0, 1.3, 0.9)[:, None]
    return _unit(_unit(pull) + inertia * onwards + 0.25 * away)


def _smooth(points: Points, parent: Indices) -> Points:
    """Round the polylines; roots and ends stay."""
    inner = parent >= 0
    inner &= np.bincount(parent[inner], minlength=len(parent)) > 0
    onto = np.flatnonzero(parent >= 0)
    for _ in range(4):
        total, count = np.zeros_like(points), np.zeros(len(points))
        np.add.at(total, parent[onto], points[onto])
        np.add.at(count, parent[onto], 1)
        ahead = total / np.maximum(count, 1)[:, None]
        middle = (points + 0.5 * (points[parent] + ahead)) / 2
        points = np.where(inner[:, None], middle, points)
    return points


def _tortuous(points: Points, rng: np.random.Generator) -> Points:
    """Bend the vessels with a smooth random field; crossings stay crossings."""
    cell, span = 0.5, 96
    shift = np.zeros_like(points)
    places = (points / cell + span).T
    for wavelength, amplitude in ((0.8, 0.14), (1.8, 0.34), (4.5, 0.45)):
        for axis in (0, 1):
            field = gaussian_filter(rng.normal(size=(2 * span, 2 * span)), wavelength / cell)
            field *= amplitude / field.std()
            shift[:, axis] += map_coordinates(field, places, order=1, mode="nearest")
    return points + shift


def _unit(vectors: Points) -> Points:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(length, 1e-9))
