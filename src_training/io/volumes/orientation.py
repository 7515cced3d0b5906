"""Canonical axes: z inferior to superior, y anterior to posterior, x right to left."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_training.errors import InputError

Affine = NDArray[np.float64]
Spacing = tuple[float, float, float]

# (axis of the RAS+ world, direction along it) of canonical z, y and x.
_CANONICAL = ((2, 1), (1, -1), (0, -1))
# Cosine between two axes of a grid from which it counts as sheared: 0.06 degrees.
_SKEW = 1e-3


@dataclass(frozen=True)
class Orientation:
    """How the axes of a file become canonical (z, y, x), and back.

    Attributes
    ----------
    order
        For z, y and x, the axis of the file that runs along it.
    flips
        For z, y and x, whether the file runs the other way.
    """

    order: tuple[int, int, int] = (0, 1, 2)
    flips: tuple[bool, bool, bool] = (False, False, False)

    def to_canonical(self, voxels: Any) -> Any:
        """A view, or a lazy array, (Z, Y, X) of an array on the file's axes."""
        return voxels.transpose(self.order)[_reversed(self.flips)]

    def to_source(self, voxels: Any) -> Any:
        """The exact inverse of `to_canonical`."""
        return voxels[_reversed(self.flips)].transpose(self._places)

    @property
    def _places(self) -> tuple[int, ...]:
        """For each axis of the file, where it comes among z, y and x."""
        return tuple(self.order.index(axis) for axis in range(3))

    def spacing(self, source: Spacing) -> Spacing:
        """Spacing (z, y, x) of a spacing in the order of the file's axes."""
        z, y, x = (source[axis] for axis in self.order)
        return z, y, x

    def to_canonical_affine(self, affine: Affine, shape: tuple[int, ...]) -> Affine:
        """From canonical indices to the world, where `affine` is from those of the file.

        Parameters
        ----------
        affine
            4 × 4.
        shape
            Of the canonical array, (Z, Y, X).
        """
        to_file = np.zeros((4, 4))
        to_file[3, 3] = 1
        for axis, (source, flipped) in enumerate(zip(self.order, self.flips, strict=True)):
            to_file[source, axis] = -1 if flipped else 1
            to_file[source, 3] = shape[axis] - 1 if flipped else 0
        return affine @ to_file


CANONICAL = Orientation()


def _reversed(flips: tuple[bool, bool, bool]) -> tuple[slice, ...]:
    return tuple(slice(None, None, -1 if flipped else 1) for flipped in flips)


def orientation_of(affine: Affine) -> Orientation:
    """The orientation nearest to an affine, 4 × 4, from file indices to RAS+ (see nibabel)."""
    from nibabel.orientations import io_orientation

    runs = {
        int(world): (axis, int(way)) for axis, (world, way) in enumerate(io_orientation(affine))
    }
    (z, flip_z), (y, flip_y), (x, flip_x) = (
        (runs[world][0], runs[world][1] != way) for world, way in _CANONICAL
    )
    return Orientation((z, y, x), (flip_z, flip_y, flip_x))


def spacing_of(affine: Affine, path: Path) -> Spacing:
    """Spacing in mm along the axes of a file.

    Raises
    ------
    InputError
        If an axis has no length, or two are not at right angles, as under a
        tilted gantry; names `path`.
    """
    columns = affine[:3, :3]
    lengths = np.linalg.norm(columns, axis=0)
    if not np.isfinite(affine).all() or (lengths == 0).any():
        raise InputError(
            f"{path} has an affine with spacing {_listed(lengths)}; expected three spacings above 0"
        )
    cosines = np.abs((columns / lengths).T @ (columns / lengths) - np.eye(3))
    if cosines.max() > _SKEW:
        tilt = np.degrees(np.arcsin(min(1.0, cosines.max())))
        raise InputError(
            f"{path} has axes {tilt:.1f} degrees off the right angle (gantry tilt); "
            "expected a grid that is resampled to right angles"
        )
    first, second, third = (float(length) for length in lengths)
    return first, second, third


def _listed(lengths: NDArray[np.float64]) -> str:
    return " x ".join(f"{length:g}" for length in lengths)
