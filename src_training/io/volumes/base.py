"""Volumes, their orientation, and the interface of volume formats."""

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
    "μm": 1e-3,  # Greek mu
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
"""Name of a unit in OME-XML, OME-Zarr or ImageJ -> millimetres."""

# (axis of the RAS+ world, direction along it) of canonical z, y and x.
_CANONICAL_AXES = ((2, 1), (1, -1), (0, -1))
# Cosine between two axes above which a grid counts as sheared: 0.06 degrees off.
_SHEARED = 1e-3


@dataclass(frozen=True)
class Orientation:
    """Mapping between the axes of a file and canonical (z, y, x).

    Attributes
    ----------
    order
        Axis of the file that runs along z, y and x.
    flips
        Whether that axis runs in the opposite direction, for z, y and x.

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
        """Return a view (Z, Y, X), or a lazy array, of an array with the file's axes."""
        return voxels.transpose(self.order)[self._slices]

    def to_source(self, voxels: Any) -> Any:
        """Return a view with the file's axes of an array (Z, Y, X); inverts `to_canonical`."""
        return voxels[self._slices].transpose([self.order.index(axis) for axis in range(3)])

    @property
    def _slices(self) -> tuple[slice, ...]:
        return tuple(slice(None, None, -1 if flipped else 1) for flipped in self.flips)

    def spacing(self, source: Spacing) -> Spacing:
        """Reorder a spacing along the file's axes to (z, y, x)."""
        z, y, x = (source[axis] for axis in self.order)
        return z, y, x

    def to_canonical_affine(self, affine: Affine, shape: tuple[int, ...]) -> Affine:
        """Convert an affine, 4 × 4, to one from canonical indices to the world.

        Parameters
        ----------
        affine
            4 × 4, from indices on the file's axes to the world.
        shape
            Shape (Z, Y, X) of the canonical array.
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
    """Return the affine, 4 × 4, from (z, y, x) indices to RAS+ of a grid that is not rotated.

    Parameters
    ----------
    spacing
        Spacing (z, y, x) in mm.
    origin
        Centre of the first voxel in mm up, back and left.
    """
    to_lps = np.diag([*spacing, 1.0])
    to_lps[:3, 3] = origin
    return from_lps(to_lps)


def from_lps(affine: Affine) -> Affine:
    """Convert an affine, 4 × 4, to mm up, back and left to one to RAS+."""
    return np.asarray(np.linalg.inv(_LPS) @ affine)


def orientation_of(affine: Affine) -> Orientation:
    """Return the orientation closest to an affine, 4 × 4, from file indices to RAS+ (nibabel)."""
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
        If an axis has no length, or two are not at right angles, as with a
        tilted gantry; the message names `path`.
    """
    columns = affine[:3, :3]
    lengths = np.linalg.norm(columns, axis=0)
    if not np.isfinite(affine).all() or (lengths == 0).any():
        listed = " x ".join(f"{length:g}" for length in lengths)
        raise InputError(
            f"{path} has an affine with spacing {listed}; expected three spacings above 0"
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
    """A volume whose voxels are read lazily.

    Attributes
    ----------
    voxels
        Lazy (dask) array (Z, Y, X), chunked by slices of the file: z runs from
        inferior to superior, y from anterior to posterior, x from right to
        left (the LPS of DICOM). Hounsfield units if the file has a
        rescale. Computing raises `InputError` if the file is broken.
    spacing
        Spacing (z, y, x) in mm; None if the file has none.
    path
        File or folder.
    format
        Name of its `VolumeFormat`; empty for arrays that are in no file.
    orientation
        Mapping of the file's axes to canonical ones. TIFF and zarr record none, and are
        assumed to be canonical.
    affine
        4 × 4, from indices on the file's axes to RAS+ in mm; None if the
        file has none.
    coarser
        Further levels of a pyramid, (Z', Y', X') each, from fine to coarse.
    name
        Name of the channel, if the file has several.
    notes
        Notes for the user on how the file was read, one sentence each.
    labels
        Whether the file declares that its voxels are labels.
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
        """Shape (Z, Y, X)."""
        z, y, x = self.voxels.shape
        return int(z), int(y), int(x)

    @property
    def canonical_affine(self) -> Affine | None:
        """Affine, 4 × 4, from canonical (z, y, x) indices to RAS+ in mm; None without `affine`."""
        if self.affine is None:
            return None
        return self.orientation.to_canonical_affine(self.affine, self.shape)

    @property
    def world_affine(self) -> Affine | None:
        """Affine, 4 × 4, from canonical indices to mm up, back and left; None without `affine`."""
        affine = self.canonical_affine
        return None if affine is None else np.asarray(_LPS @ affine)

    @property
    def origin(self) -> tuple[float, float, float]:
        """Centre of the first canonical voxel in mm up, back and left; zeros without `affine`."""
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
    """A file format of volumes: the interface for reading them and writing labels.

    Attributes
    ----------
    name
        Key in the registry, and `Volume.format` of the volumes that `read` returns.
    suffixes
        Suffixes of file names in lower case, with the dot; empty if the format is only
        recognised by the content of a folder.
    recognises
        Function that tells from name and header whether a file or folder is a volume of this
        format. It never raises, and accepts broken files, so that `read` can report the error.
    read
        Function that opens every channel of a volume lazily, at least one; raises
        `InputError` if the file is broken or no volume.
    write_labels
        Function that writes labels of a volume atomically and slab by slab; called by
        `write_labels_like`, which checks their shape and dtype. None
        if the format is read-only.
    label_suffixes
        Suffixes for labels of such a volume: that of the
        volume is used if it is among them, else the first. If empty,
        those of the first format in the registry are used.
    takes_labels
        Function that tells whether labels may be written to a path with none of the
        `suffixes`; None if only the suffix decides.
    in_domains
        Whether a domain's ``images/`` and ``masks/`` may contain such volumes.
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
        """Return the longest suffix of the format that a name ends with; empty if there is none."""
        name = path.name.lower()
        return max((each for each in self.suffixes if name.endswith(each)), key=len, default="")
