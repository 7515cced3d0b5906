"""A volume of a file: lazy voxels on canonical axes, and the way back onto the file's grid."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from src_training.io.volumes.orientation import CANONICAL, Affine, Orientation, Spacing

Kind = Literal["nifti", "dicom", "tiff", "zarr2", "zarr3"]


@dataclass(frozen=True, eq=False)
class Volume:
    """A scan, read when its voxels are asked for.

    Attributes
    ----------
    voxels
        Lazy (dask) array (Z, Y, X), chunked by slices of the file: z runs from
        inferior to superior, y from anterior to posterior, x from right to
        left (the LPS of DICOM). Hounsfield units where the file tells a
        rescale. Reading raises `InputError` where the file is broken.
    spacing
        (z, y, x) in mm; None where the file does not tell.
    path
        File or folder.
    kind
        Format; zarr by its version.
    orientation
        From the file's axes to these. TIFF and zarr tell none: theirs are
        taken to be canonical.
    affine
        4 × 4, from indices on the file's axes to RAS+ in mm; None where the
        file tells none.
    coarser
        Further levels of a pyramid, (Z', Y', X') each, ever coarser.
    name
        Of the channel, where the file holds several.
    """

    voxels: Any
    spacing: Spacing | None
    path: Path
    kind: Kind
    orientation: Orientation = CANONICAL
    affine: Affine | None = None
    coarser: tuple[Any, ...] = ()
    name: str = ""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(Z, Y, X)."""
        z, y, x = self.voxels.shape
        return int(z), int(y), int(x)

    @property
    def canonical_affine(self) -> Affine | None:
        """4 × 4, from canonical (z, y, x) indices to RAS+ in mm; None as `affine`."""
        if self.affine is None:
            return None
        return self.orientation.to_canonical_affine(self.affine, self.shape)
