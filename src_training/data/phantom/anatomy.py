"""Anatomy of a synthetic fundus: optic disc, cup, vessel arcades, pigment (*reconstruction*)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

from src_training.data.phantom.vessel_tree import (
    STEP,
    Points,
    VesselTree,
    grow_tree,
    scatter_targets,
)

RETINA = (np.array([5.0, 0.0]), 28.0)
"""Centre and radius of the simulated retina, degrees; contains every camera's field of view."""

_TARGET_DISTANCES = (8.0, 4.6, 2.7)
"""Distance between the targets of vessel growth, degrees, coarse to fine."""


@dataclass(frozen=True, eq=False)
class FundusAnatomy:
    """Anatomy of one eye; lengths in degrees, fovea at the origin, nasal is positive x.

    Attributes
    ----------
    arteries, veins
        The two vessel trees.
    disc
        (2,) centre of the optic disc.
    disc_radii
        (2,) semi-axes of the disc, horizontal and vertical.
    cup
        Cup-to-disc ratio of the diameters.
    pigment
        Pigmentation, from pale (-1) to dark (1).
    left
        Whether it is a left eye, whose photographs are mirrored.
    seed
        Seed of the textures, the same for every scanner.
    """

    arteries: VesselTree
    veins: VesselTree
    disc: Points
    disc_radii: Points
    cup: float
    pigment: float
    left: bool
    seed: int


def grow_anatomy(seed: int) -> FundusAnatomy:
    """Draw the anatomy of an eye; the same seed gives the same eye."""
    rng = np.random.default_rng(seed)
    disc = np.array([15.4, 1.4]) + rng.normal(0, 0.5, 2)
    width = rng.normal(2.75, 0.18)
    return FundusAnatomy(
        arteries=_tree(disc, 0.84, 0.047, rng),
        veins=_tree(disc, 1.04, 0.056, rng),
        disc=disc,
        disc_radii=np.array([width, width * rng.uniform(1.05, 1.14)]),
        cup=float(rng.uniform(0.35, 0.55)),
        pigment=float(rng.uniform(-1, 1)),
        left=bool(rng.random() < 0.5),
        seed=int(rng.integers(2**31)),
    )


def smooth_noise(
    x: NDArray[np.float64], y: NDArray[np.float64], wavelength: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Smooth random texture of unit variance on the retina, sampled at points (x, y).

    Parameters
    ----------
    x, y
        Coordinates, degrees, of equal shapes.
    wavelength
        Size of a blob, degrees.
    rng
        Random generator of the texture.
    """
    cell = max(wavelength / 6, 0.08)
    side = int(2 * (RETINA[1] + 6) / cell)
    field = gaussian_filter(rng.standard_normal((side, side), np.float32), wavelength / 4 / cell)
    field /= field.std()
    points = np.stack([y - RETINA[0][1], x - RETINA[0][0]]) / cell + side / 2
    return np.asarray(map_coordinates(field, points, order=1, mode="mirror"), np.float64)


def _tree(disc: Points, height: float, leaf: float, rng: np.random.Generator) -> VesselTree:
    """Grow arteries or veins with arcades of a relative `height` and finest radius `leaf`."""
    trunks = [
        *(_arcade(disc, side, height * rng.normal(1, 0.05), rng) for side in (1, -1)),
        *(_nasal(disc, side * rng.uniform(35, 65), rng) for side in (1, -1)),
        *(_disc_vessel(disc, angle + rng.normal(0, 14), rng) for angle in (8, 100, 160, 200, 255)),
    ]
    targets = [scatter_targets(spacing, *RETINA, rng) for spacing in _TARGET_DISTANCES]
    return grow_tree(trunks, targets, disc, leaf, rng)


def _arcade(disc: Points, side: int, height: float, rng: np.random.Generator) -> Points:
    """Path of a temporal arcade: a parabola around the macula that opens away from the disc."""
    along = np.arange(0, rng.uniform(22, 27), 0.02)
    flat = 1 - 0.016 * np.maximum(0, along - 12)
    y = side * height * 3.4 * along**0.42 * flat
    origin = disc + np.array([rng.normal(0.5, 0.2), side * 0.3])
    return _resample(origin + np.stack([0.25 * np.sin(y) - along, y], axis=1))


def _nasal(disc: Points, angle: float, rng: np.random.Generator) -> Points:
    """Path of a nasal vessel: nearly straight, bending to the horizontal."""
    along = np.arange(0, 16, 0.05)
    bend = np.exp(-along / rng.uniform(14, 30)) + 0.5 * np.exp(-along / 1.5)
    heading = np.deg2rad(angle) * bend
    path = np.cumsum(np.stack([np.cos(heading), np.sin(heading)], axis=1) * 0.05, axis=0)
    return _resample(disc + np.array([0.5, np.sign(angle) * 0.3]) + path)


def _disc_vessel(disc: Points, angle: float, rng: np.random.Generator) -> Points:
    """Path of a thin vessel that starts inside the disc."""
    along = np.arange(0, 4.2, 0.05)[:, None]
    heading = np.deg2rad(angle)
    return _resample(
        disc + np.array([0.4, 0]) + along * np.array([np.cos(heading), np.sin(heading)])
    )


def _resample(path: Points) -> Points:
    """Resample a polyline to nodes `STEP` apart."""
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    at = np.arange(0, length[-1], STEP)
    return np.stack([np.interp(at, length, path[:, axis]) for axis in (0, 1)], axis=1)
