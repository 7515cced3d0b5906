"""Grids of voxels: comparing two grids, and resampling labels from one to another."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_training.errors import InputError
from src_training.io.volumes.base import Affine, Volume

# Tolerance for rounded headers: relative for spacings, absolute for cosines of directions.
_ROUNDED = 1e-3
# Maximum distance in voxels of two corners that count as the same.
_APART = 0.1


@dataclass(frozen=True, eq=False)
class Grid:
    """A grid of pixels or voxels.

    Attributes
    ----------
    shape
        Number of voxels along each axis.
    spacing
        Length of a voxel along each axis; None if unknown.
    affine
        Affine from indices to the world, (n + 1) × (n + 1); None if unknown.
    unit
        Unit of the world.

    Examples
    --------
    >>> one = Grid.of_affine((4, 5, 6), np.diag([2.5, 0.7, 0.7, 1]))
    >>> one.differences(Grid.of_affine((4, 5, 6), np.diag([2.50001, 0.7, 0.7, 1])))
    ()
    >>> one.differences(Grid.of_affine((4, 5, 6), np.eye(4)))
    ('spacing 2.5 × 0.7 × 0.7 mm against 1 × 1 × 1 mm (z × y × x)',)
    """

    shape: tuple[int, ...]
    spacing: tuple[float, ...] | None = None
    affine: Affine | None = None
    unit: str = "mm"

    @classmethod
    def of_affine(cls, shape: tuple[int, ...], affine: Affine, unit: str = "mm") -> "Grid":
        """Create a grid from an affine, which also gives its spacing."""
        spacing = np.linalg.norm(affine[:-1, :-1], axis=0).tolist()
        return cls(shape, tuple(spacing), affine, unit)

    @classmethod
    def of_volume(cls, volume: Volume) -> "Grid":
        """Create the grid of a volume with canonical axes; its world is mm up, back and left."""
        return cls(volume.shape, volume.spacing, volume.world_affine)

    def __eq__(self, other: object) -> bool:
        """Whether two grids are exactly equal."""
        if not isinstance(other, Grid) or self.shape != other.shape or self.unit != other.unit:
            return False
        if self.affine is None or other.affine is None:
            return self.affine is other.affine and self.spacing == other.spacing
        return bool(np.array_equal(self.affine, other.affine))

    def differences(self, other: "Grid") -> tuple[str, ...]:
        """Describe the differences beyond rounding, such as "this against that".

        Properties that one of the grids lacks are not compared. Spacings and the cosines of
        directions may differ by 1e-3, and one corner of both
        must coincide within a tenth of a voxel.
        """
        if self == other:
            return ()  # a fast path, because layers are compared pairwise
        differences = []
        if self.shape != other.shape:
            differences.append(f"{format_size(self.shape)} against {format_size(other.shape)}")
        axes = "tzyx"[-len(self.shape) :]
        size, expected = self.spacing, other.spacing
        if size and expected and not np.allclose(size, expected, rtol=_ROUNDED, atol=0):
            here, there = (" × ".join(f"{each:.6g}" for each in one) for one in (size, expected))
            names = " × ".join(axes)
            differences.append(f"spacing {here} {self.unit} against {there} {other.unit} ({names})")
        if self.affine is None or other.affine is None:
            return tuple(differences)
        mine, others = _steps(self.affine), _steps(other.affine)
        if np.abs(mine - others).max() > _ROUNDED:
            angle = np.degrees(np.arccos(np.clip((mine * others).sum(axis=0).min(), -1, 1)))
            differences.append(f"axes up to {angle:.1f} degrees apart")
        if not _corner_in_common(self, self.affine, other, other.affine):
            here, there = (
                ", ".join(f"{each:.6g}" for each in np.round(one[:-1, -1], 6) + 0.0)
                for one in (self.affine, other.affine)
            )
            names = ", ".join(axes)
            differences.append(
                f"origin ({here}) {self.unit} against ({there}) {other.unit} ({names})"
            )
        return tuple(differences)


def _steps(affine: Affine) -> Affine:
    """Unit vectors along the axes, as columns."""
    return np.asarray(affine[:-1, :-1] / np.linalg.norm(affine[:-1, :-1], axis=0))


def _corner_in_common(one: Grid, affine: Affine, other: Grid, other_affine: Affine) -> bool:
    """Whether any corner coincides, because headers may store any one of them exactly."""
    ends = np.array(list(np.ndindex((2,) * len(one.shape)))).T
    mine, others = (ends * (np.array(grid.shape) - 1)[:, None] for grid in (one, other))
    back = np.linalg.inv(affine) @ other_affine
    apart = back[:-1, :-1] @ others + back[:-1, -1:] - mine
    return bool((np.abs(apart).max(axis=0) <= _APART).any())


@dataclass(frozen=True)
class ResampledMask:
    """What became of labels that were resampled.

    Attributes
    ----------
    labelled
        Number of labelled voxels before.
    outside
        Number of those that are outside the new grid.
    lost
        Labels that no longer have a voxel.
    """

    labelled: int
    outside: int
    lost: tuple[int, ...] = ()

    def __str__(self) -> str:
        """Describe the resampling, as the continuation of "the mask is"."""
        share = 100 * self.outside / max(1, self.labelled)
        text = "resampled to the grid of the image (nearest neighbour); "
        text += f"{self.outside:,} of {self.labelled:,} labelled voxels ({share:.1f} %) lay outside"
        return text + (f"; lost labels: {', '.join(map(str, self.lost))}" if self.lost else "")


def resample_labels(
    labels: NDArray[np.integer], grid: Grid, onto: Grid, what: str
) -> tuple[NDArray[np.integer], ResampledMask]:
    """Resample labels to another grid of the same world by nearest neighbour.

    Parameters
    ----------
    labels
        Labels on `grid`.
    grid, onto
        Old and new grid, both with an affine.
    what
        Name of the labels for errors.

    Raises
    ------
    InputError
        If a grid has no affine, or no label remains.
    """
    from scipy import ndimage

    if grid.affine is None or onto.affine is None:
        raise InputError(
            f"{what} cannot be resampled: its place or that of its image is not recorded; "
            "expected both in one space"
        )
    back = np.linalg.inv(grid.affine) @ onto.affine
    resampled = ndimage.affine_transform(
        labels,
        back[:-1, :-1],
        back[:-1, -1],
        output_shape=onto.shape,
        order=0,
        mode="grid-constant",  # "constant" would drop voxels up to half a voxel beyond the border
    )
    labelled = int(np.count_nonzero(labels))
    outside = labelled - _count_inside(labels, np.asarray(np.linalg.inv(back)), onto.shape)
    if labelled and not resampled.any():
        raise InputError(
            f"{what} is empty on the grid of its image: {outside:,} of {labelled:,} "
            "labelled voxels lie outside it; expected both in one space"
        )
    return resampled, ResampledMask(labelled, outside, _lost(labels, resampled))


def _count_inside(labels: NDArray[Any], affine: Affine, shape: tuple[int, ...]) -> int:
    """Count labelled voxels whose centre is in a grid, given the affine to its indices."""
    count, ends = 0, np.array(shape) - 0.5
    for first, part in enumerate(labels):  # slice by slice, as positions need 24 bytes each
        positions = np.argwhere(part)
        mapped = positions @ affine[:-1, 1:-1].T + affine[:-1, 0] * first + affine[:-1, -1]
        # The tolerance keeps centres that are exactly on the edge.
        count += int(((mapped > -0.5 - 1e-6) & (mapped < ends + 1e-6)).all(axis=1).sum())
    return count


def _lost(before: NDArray[Any], after: NDArray[Any]) -> tuple[int, ...]:
    return tuple(sorted({*np.unique(before).tolist()} - {0, *np.unique(after).tolist()}))


def format_size(size: Sequence[int]) -> str:
    """Format a size (H, W) or (Z, H, W).

    Examples
    --------
    >>> format_size((960, 999)), format_size((78, 512, 512))
    ('999 × 960 px (w × h)', '78 slices of 512 × 512 px (w × h)')
    """
    *stack, height, width = size
    slices = f"{' × '.join(map(str, stack))} slices of " if stack else ""
    return f"{slices}{width} × {height} px (w × h)"
