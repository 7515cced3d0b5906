"""The grid that voxels lie on: whether two are one, and labels resampled from one to another."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_training.errors import InputError
from src_training.io.volumes.base import Affine, Volume

# As headers are rounded: spacings relative to each other, directions as cosines.
_ROUNDED = 1e-3
# How far apart two corners may lie that are one, in voxels.
_APART = 0.1


@dataclass(frozen=True, eq=False)
class Grid:
    """A grid of pixels or voxels.

    Attributes
    ----------
    shape
        Number of voxels along each axis.
    spacing
        Length of a voxel along each axis; None where it is not known.
    affine
        From indices to the world, (n + 1) × (n + 1); None where the place is not known.
    unit
        Of the world.

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
        """Return the grid whose place is given by an affine; its spacing is that, too."""
        spacing = np.linalg.norm(affine[:-1, :-1], axis=0).tolist()
        return cls(shape, tuple(spacing), affine, unit)

    @classmethod
    def of_volume(cls, volume: Volume) -> "Grid":
        """Return the grid of a volume on canonical axes; the world is mm up, back and left."""
        return cls(volume.shape, volume.spacing, volume.world_affine)

    def __eq__(self, other: object) -> bool:
        """Whether every number is the same."""
        if not isinstance(other, Grid) or self.shape != other.shape or self.unit != other.unit:
            return False
        if self.affine is None or other.affine is None:
            return self.affine is other.affine and self.spacing == other.spacing
        return bool(np.array_equal(self.affine, other.affine))

    def differences(self, other: "Grid") -> tuple[str, ...]:
        """Return what differs beyond rounding, "this against that"; what one lacks is passed over.

        Spacings and the cosines of directions may differ by 1e-3, and one corner of both
        must coincide within a tenth of a voxel.
        """
        if self == other:
            return ()  # at once: layers are compared each with each
        found = []
        if self.shape != other.shape:
            found.append(f"{format_size(self.shape)} against {format_size(other.shape)}")
        axes = "tzyx"[-len(self.shape) :]
        size, expected = self.spacing, other.spacing
        if size and expected and not np.allclose(size, expected, rtol=_ROUNDED, atol=0):
            here, there = (" × ".join(f"{each:.6g}" for each in one) for one in (size, expected))
            names = " × ".join(axes)
            found.append(f"spacing {here} {self.unit} against {there} {other.unit} ({names})")
        if self.affine is None or other.affine is None:
            return tuple(found)
        mine, others = _steps(self.affine), _steps(other.affine)
        if np.abs(mine - others).max() > _ROUNDED:
            angle = np.degrees(np.arccos(np.clip((mine * others).sum(axis=0).min(), -1, 1)))
            found.append(f"axes up to {angle:.1f} degrees apart")
        if not _corner_in_common(self, self.affine, other, other.affine):
            here, there = (
                ", ".join(f"{each:.6g}" for each in np.round(one[:-1, -1], 6) + 0.0)
                for one in (self.affine, other.affine)
            )
            names = ", ".join(axes)
            found.append(f"origin ({here}) {self.unit} against ({there}) {other.unit} ({names})")
        return tuple(found)


def _steps(affine: Affine) -> Affine:
    """Unit vectors along the axes, as columns."""
    return np.asarray(affine[:-1, :-1] / np.linalg.norm(affine[:-1, :-1], axis=0))


def _corner_in_common(one: Grid, affine: Affine, other: Grid, other_affine: Affine) -> bool:
    """Whether a corner is one of both: which of them the headers hold exactly is not known."""
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
        Number of voxels with a label before.
    outside
        How many of them lie outside the new grid.
    lost
        Labels that are in no voxel any more.
    """

    labelled: int
    outside: int
    lost: tuple[int, ...] = ()

    def __str__(self) -> str:
        """Text that goes on after "the mask is": resampled how, and what was lost."""
        share = 100 * self.outside / max(1, self.labelled)
        text = "resampled to the grid of the image (nearest neighbour); "
        text += f"{self.outside:,} of {self.labelled:,} labelled voxels ({share:.1f} %) lay outside"
        return text + (f"; lost labels: {', '.join(map(str, self.lost))}" if self.lost else "")


def resample_labels(
    labels: NDArray[np.integer], grid: Grid, onto: Grid, what: str
) -> tuple[NDArray[np.integer], ResampledMask]:
    """Resample labels to another grid of the same world, nearest neighbour.

    Parameters
    ----------
    labels
        On `grid`.
    grid, onto
        Both with an affine.
    what
        Names the labels in a sentence.

    Raises
    ------
    InputError
        If the place of one is not known, or no label is left.
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
        mode="grid-constant",  # "constant" would drop what lies half a voxel beyond a centre
    )
    labelled = int(np.count_nonzero(labels))
    outside = labelled - _count_inside(labels, np.asarray(np.linalg.inv(back)), onto.shape)
    found = ResampledMask(labelled, outside, _lost(labels, resampled))
    if labelled and not resampled.any():
        raise InputError(
            f"{what} is empty on the grid of its image: {found.outside:,} of {found.labelled:,} "
            "labelled voxels lie outside it; expected both in one space"
        )
    return resampled, found


def _count_inside(labels: NDArray[Any], affine: Affine, shape: tuple[int, ...]) -> int:
    """Count labelled voxels whose centre lies in a grid, by the affine to its indices."""
    count, ends = 0, np.array(shape) - 0.5
    for first, part in enumerate(labels):  # slice by slice: positions take 24 bytes each
        positions = np.argwhere(part)
        there = positions @ affine[:-1, 1:-1].T + affine[:-1, 0] * first + affine[:-1, -1]
        # Rounding must not push what lies on the very edge out.
        count += int(((there > -0.5 - 1e-6) & (there < ends + 1e-6)).all(axis=1).sum())
    return count


def _numbers(values: NDArray[np.float64]) -> str:
    return f"({', '.join(f'{each:.6g}' for each in np.round(values, 6) + 0.0)})"


def _lost(before: NDArray[Any], after: NDArray[Any]) -> tuple[int, ...]:
    return tuple(sorted({*np.unique(before).tolist()} - {0, *np.unique(after).tolist()}))


def format_size(size: Sequence[int]) -> str:
    """Return a size (H, W) or (Z, H, W) as text.

    Examples
    --------
    >>> format_size((960, 999)), format_size((78, 512, 512))
    ('999 × 960 px (w × h)', '78 slices of 512 × 512 px (w × h)')
    """
    *stack, height, width = size
    slices = f"{' × '.join(map(str, stack))} slices of " if stack else ""
    return f"{slices}{width} × {height} px (w × h)"
