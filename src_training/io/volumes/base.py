"""A volume in a file, the axes it lies on, and what a format of volumes is."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_training.errors import InputError

Affine = NDArray[np.float64]
Spacing = tuple[float, float, float]

MILLIMETRES = {
    "angstrom": 1e-7,
    "nm": 1e-6,
    "nanometer": 1e-6,
    "um": 1e-3,
    "µm": 1e-3,  # micro sign
    "μm": 1e-3,  # Greek mu, which is written as well
    "micron": 1e-3,
    "microns": 1e-3,
    "micrometer": 1e-3,
    "mm": 1.0,
    "millimeter": 1.0,
    "cm": 10.0,
    "centimeter": 10.0,
    "inch": 25.4,
    "m": 1000.0,
    "meter": 1000.0,
}
"""Millimetres in a unit, by its name in OME-XML, OME-Zarr and ImageJ."""

# (axis of the RAS+ world, direction along it) of canonical z, y and x.
_CANONICAL_AXES = ((2, 1), (1, -1), (0, -1))
# Cosine between two axes of a grid from which it counts as sheared: 0.06 degrees.
_SHEARED = 1e-3


@dataclass(frozen=True)
class Orientation:
    """How the axes of a file map to canonical (z, y, x), and back.

    Attributes
    ----------
    order
        For z, y and x, the axis of the file that runs along it.
    flips
        For z, y and x, whether the file runs the other way.

    Examples
    --------
    >>> stored = np.arange(6).reshape(1, 2, 3)
    >>> orientation = Orientation(order=(2, 1, 0), flips=(False, True, False))
    >>> orientation.to_canonical(stored).shape
    (3, 2, 1)
    >>> bool((orientation.to_source(orientation.to_canonical(stored)) == stored).all())
    True
    """

    order: tuple[int, int, int] = (0, 1, 2)
    flips: tuple[bool, bool, bool] = (False, False, False)

    def to_canonical(self, voxels: Any) -> Any:
        """Return a view (Z, Y, X), or a lazy array, of an array on the file's axes."""
        return voxels.transpose(self.order)[self._flipped]

    def to_source(self, voxels: Any) -> Any:
        """Return a view on the file's axes of an array (Z, Y, X): `to_canonical` undone."""
        return voxels[self._flipped].transpose([self.order.index(axis) for axis in range(3)])

    @property
    def _flipped(self) -> tuple[slice, ...]:
        return tuple(slice(None, None, -1 if flipped else 1) for flipped in self.flips)

    def spacing(self, source: Spacing) -> Spacing:
        """Return the spacing (z, y, x) from one in the order of the file's axes."""
        z, y, x = (source[axis] for axis in self.order)
        return z, y, x

    def to_canonical_affine(self, affine: Affine, shape: tuple[int, ...]) -> Affine:
        """Return the affine, 4 × 4, from canonical indices to the world.

        Parameters
        ----------
        affine
            4 × 4, from indices on the file's axes to the world.
        shape
            (Z, Y, X) of the canonical array.
        """
        to_file = np.zeros((4, 4))
        to_file[3, 3] = 1
        for axis, (source, flipped) in enumerate(zip(self.order, self.flips, strict=True)):
            to_file[source, axis] = -1 if flipped else 1
            to_file[source, 3] = shape[axis] - 1 if flipped else 0
        return affine @ to_file


CANONICAL = Orientation()

_LPS = np.array([[0.0, 0, 1, 0], [0, -1, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 1]])
"""From RAS+ (x, y, z) to (z, y, x) of LPS: up, back and left, mm."""


def affine_at(spacing: Spacing, origin: tuple[float, float, float]) -> Affine:
    """Return the affine, 4 × 4, from (z, y, x) indices to RAS+ of a grid that lies straight.

    Parameters
    ----------
    spacing
        (z, y, x) in mm.
    origin
        Centre of the first voxel: mm up, back and left.
    """
    to_lps = np.diag([*spacing, 1.0])
    to_lps[:3, 3] = origin
    return from_lps(to_lps)


def from_lps(affine: Affine) -> Affine:
    """Return the affine to RAS+ of one to mm up, back and left, 4 × 4, from the same indices."""
    return np.asarray(np.linalg.inv(_LPS) @ affine)


def orientation_of(affine: Affine) -> Orientation:
    """Return the orientation nearest to an affine, 4 × 4, from file indices to RAS+ (nibabel)."""
    from nibabel.orientations import io_orientation

    runs = {
        int(world): (axis, int(way)) for axis, (world, way) in enumerate(io_orientation(affine))
    }
    (z, flip_z), (y, flip_y), (x, flip_x) = (
        (runs[world][0], runs[world][1] != way) for world, way in _CANONICAL_AXES
    )
    return Orientation((z, y, x), (flip_z, flip_y, flip_x))


def spacing_of(affine: Affine, path: Path) -> Spacing:
    """Return the spacing in mm along the axes of a file.

    Raises
    ------
    InputError
        If an axis has no length, or two are not at right angles, as under a
        tilted gantry; names `path`.
    """
    columns = affine[:3, :3]
    lengths = np.linalg.norm(columns, axis=0)
    if not np.isfinite(affine).all() or (lengths == 0).any():
        found = " x ".join(f"{length:g}" for length in lengths)
        raise InputError(
            f"{path} has an affine with spacing {found}; expected three spacings above 0"
        )
    cosines = np.abs((columns / lengths).T @ (columns / lengths) - np.eye(3))
    if cosines.max() > _SHEARED:
        tilt = np.degrees(np.arcsin(min(1.0, cosines.max())))
        raise InputError(
            f"{path} has axes {tilt:.1f} degrees off the right angle (gantry tilt); "
            "expected a grid that is resampled to right angles"
        )
    first, second, third = (float(length) for length in lengths)
    return first, second, third


@dataclass(frozen=True, eq=False)
class Volume:
    """A scan whose voxels are read when they are computed.

    Attributes
    ----------
    voxels
        Lazy (dask) array (Z, Y, X), chunked by slices of the file: z runs from
        inferior to superior, y from anterior to posterior, x from right to
        left (the LPS of DICOM). Hounsfield units where the file has a
        rescale. Computing raises `InputError` where the file is broken.
    spacing
        (z, y, x) in mm; None where the file has none.
    path
        File or folder.
    format
        Name of its `VolumeFormat`; empty for arrays that are in no file.
    orientation
        From the file's axes to canonical ones. TIFF and zarr have none: theirs
        are taken to be canonical.
    affine
        4 × 4, from indices on the file's axes to RAS+ in mm; None where the
        file has none.
    coarser
        Further levels of a pyramid, (Z', Y', X') each, ever coarser.
    name
        Name of the channel, where the file holds several.
    notes
        What a person should know of how it was read, a sentence each.
    labels
        Whether the file says that its voxels are labels.
    """

    voxels: Any
    spacing: Spacing | None
    path: Path
    format: str = ""
    orientation: Orientation = CANONICAL
    affine: Affine | None = None
    coarser: tuple[Any, ...] = ()
    name: str = ""
    notes: tuple[str, ...] = ()
    labels: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """(Z, Y, X)."""
        z, y, x = self.voxels.shape
        return int(z), int(y), int(x)

    @property
    def canonical_affine(self) -> Affine | None:
        """4 × 4, from canonical (z, y, x) indices to RAS+ in mm; None without `affine`."""
        if self.affine is None:
            return None
        return self.orientation.to_canonical_affine(self.affine, self.shape)

    @property
    def world_affine(self) -> Affine | None:
        """4 × 4, canonical (z, y, x) indices to mm up, back and left; None without `affine`."""
        affine = self.canonical_affine
        return None if affine is None else np.asarray(_LPS @ affine)

    @property
    def origin(self) -> tuple[float, float, float]:
        """Centre of the first canonical voxel: mm up, back and left; zeros without `affine`."""
        world = self.world_affine
        if world is None:
            return 0.0, 0.0, 0.0
        up, back, left = (float(each) for each in world[:3, 3])
        return up, back, left

    @property
    def is_straight(self) -> bool:
        """Whether the canonical axes run up, back and left, within 0.06 degrees."""
        world = self.world_affine
        if world is None:
            return True
        steps = world[:3, :3] / np.linalg.norm(world[:3, :3], axis=0)
        return bool(np.abs(steps - np.eye(3)).max() < _SHEARED)


@dataclass(frozen=True)
class VolumeFormat:
    """A file format of volumes: all that the rest of the engine asks about it.

    Attributes
    ----------
    name
        Key in the registry, and `Volume.format` of what `read` returns.
    suffixes
        Endings of names, in lower case, with the dot; empty where only the
        content of a folder marks the format.
    recognises
        Whether an existing file or folder holds a volume of this format, from
        its name and header. It never raises: what is broken is refused by `read`.
    read
        Open every channel of a volume lazily, at least one; raises
        `InputError` if it is broken or no volume.
    write_labels
        Write labels of a volume to a path, atomically and slab by slab; see
        `write_labels_like`, which has checked their shape and dtype. None
        where the format is only read.
    label_suffixes
        Suffixes that labels of such a volume are written with: that of the
        volume itself where it is among them, else the first. Empty takes
        those of the registry's first format.
    takes_labels
        Whether labels may be written to a path that has none of the
        `suffixes`; None where the suffix alone decides.
    in_domains
        Whether a domain's ``images/`` and ``masks/`` may hold such volumes.
    """

    name: str
    suffixes: tuple[str, ...]
    recognises: Callable[[Path], bool]
    read: Callable[[Path], list[Volume]]
    write_labels: Callable[[Volume, Any, Path], None] | None = None
    label_suffixes: tuple[str, ...] = ()
    takes_labels: Callable[[Path], bool] | None = None
    in_domains: bool = True

    def suffix_of(self, path: Path) -> str:
        """Return the longest of the format's suffixes that a name ends with, or ""."""
        name = path.name.lower()
        return max((each for each in self.suffixes if name.endswith(each)), key=len, default="")
