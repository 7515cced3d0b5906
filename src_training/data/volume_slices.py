"""The slices of whole volumes as cases of a domain."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from src_training.data.case import Case, SlicePosition, require_size
from src_training.data.classes import BINARY, ClassValues
from src_training.errors import InputError
from src_training.io.volumes.nifti import NIFTI_SUFFIXES
from src_training.io.volumes.registry import open_volume


@dataclass(frozen=True)
class VolumeSlice:
    """A slice of a volume on disk, and what the mask told.

    Attributes
    ----------
    name
        ``STEM_z012``, so that `patient_of` and `adjacent_slice_name` know it.
    image, mask
        NIfTI files; None without mask.
    position
        Where in the volume.
    size
        Height and width, pixels.
    values
        Values stored in the mask's slice; None without mask.
    classes
        From stored values to class indices.
    """

    name: str
    image: Path
    mask: Path | None
    position: SlicePosition
    size: tuple[int, int]
    values: tuple[int, ...] | None
    classes: ClassValues

    def read(self) -> Case:
        """Read the slice; the volume it is of stays in memory until another is read.

        Raises
        ------
        InputError
            If the volume cannot be read, or has values that are not finite.
        """
        image = _voxels(self.image)[self.position.index]
        return Case(self.name, image, self.labels(), position=self.position)

    def labels(self) -> NDArray[np.uint8] | None:
        """Class indices (H, W); None without mask. InputError if the mask cannot be read."""
        if self.mask is None:
            return None
        return self.classes.indices(_labels(self.mask)[self.position.index])


def volume_files(folder: Path) -> dict[str, Path]:
    """The NIfTI files of a folder by stem, in order; empty if there is no such folder."""
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return {
        _stem(file): file
        for file in files
        if file.name.lower().endswith(NIFTI_SUFFIXES) and not file.name.startswith(".")
    }


def slices_in(folder: Path, masks: Literal["required", "optional"]) -> dict[str, VolumeSlice]:
    """Every slice of the volumes in ``images/``, with ``masks/`` of the same stem.

    Masks are read once, to find their values.

    Raises
    ------
    InputError
        If a file cannot be read, a mask is missing or of another size, or
        holds what is no label.
    """
    labels = volume_files(folder / "masks")
    found = dict[str, VolumeSlice]()
    for stem, file in volume_files(folder / "images").items():
        if masks == "required" and stem not in labels:
            raise InputError(f"{folder} has no mask for {file.name}; expected one in masks/")
        found |= slices_of(stem, file, labels.get(stem))
    return found


def slices_of(stem: str, file: Path, mask: Path | None) -> dict[str, VolumeSlice]:
    """Every slice of one volume, and what its mask, which is read, holds there.

    Raises
    ------
    InputError
        As `slices_in`.
    """
    volume = open_volume(file)
    if volume.spacing is None:
        raise InputError(f"{file} tells no spacing; expected millimetres along each axis")
    depth, height, width = volume.shape
    stored = None if mask is None else _labels(mask)
    if stored is not None:
        require_size(stored.shape, volume.shape, mask)
    digits = max(3, len(str(depth - 1)))
    slices = {}
    for index in range(depth):
        name = f"{stem}_z{index:0{digits}d}"
        values = None if stored is None else tuple(np.unique(stored[index]).tolist())
        position = SlicePosition(stem, index, depth, volume.spacing)
        slices[name] = VolumeSlice(
            name, file, mask, position, (height, width), values, ClassValues(BINARY)
        )
    return slices


def _stem(file: Path) -> str:
    return file.name[: file.name.lower().rindex(".nii")]


def _voxels(file: Path) -> NDArray[Any]:
    return _read_voxels(file, file.stat().st_mtime_ns)


def _labels(file: Path) -> NDArray[np.integer]:
    return _read_labels(file, file.stat().st_mtime_ns)


@lru_cache(maxsize=1)
def _read_voxels(file: Path, _changed: int) -> NDArray[Any]:
    """Whole numbers as int16 where they fit, anything else as float32."""
    voxels = np.asarray(open_volume(file).voxels)
    if not np.isfinite(voxels).all():
        raise InputError(f"{file} has values that are NaN or infinite; expected none")
    low, high = voxels.min(), voxels.max()
    whole = voxels.dtype.kind in "iu" or bool((voxels == np.round(voxels)).all())
    fits = whole and low >= np.iinfo(np.int16).min and high <= np.iinfo(np.int16).max
    return voxels.astype(np.int16 if fits else np.float32)


@lru_cache(maxsize=1)
def _read_labels(file: Path, _changed: int) -> NDArray[np.integer]:
    labels = np.asarray(open_volume(file).voxels)
    whole = labels.astype(np.int32)
    if not np.isfinite(labels).all() or (whole != labels).any():
        raise InputError(f"{file} holds fractions; expected integer labels")
    low, high = int(whole.min()), int(whole.max())
    return whole.astype(np.uint8) if low >= 0 and high <= np.iinfo(np.uint8).max else whole
