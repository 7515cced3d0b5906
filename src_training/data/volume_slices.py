"""Slices of volumes as cases of a domain."""

from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_training.data.case import Case, Masks, SlicePosition, select_by_mask
from src_training.data.classes import BINARY, ClassValues, StoredMask
from src_training.data.layouts.files import FolderFiles
from src_training.data.slice_context import slice_name
from src_training.errors import InputError
from src_training.io.masks import MaskValues
from src_training.io.volumes.base import Volume
from src_training.io.volumes.grid import Grid, ResampledMask, resample_labels
from src_training.io.volumes.registry import open_volume


@dataclass(frozen=True)
class VolumeSlice:
    """A slice of a volume on disk.

    Attributes
    ----------
    name
        ``STEM_z012``, see `slice_name`.
    image, mask
        Files or folders of volumes; None without mask.
    position
        Position of the slice in the volume.
    size
        Height and width, pixels.
    values
        Values stored in the mask's slice; None without mask.
    classes
        Mapping of stored values to class indices.
    resampled
        Outcome of resampling the whole mask; None if it is on the image's grid.
    """

    name: str
    image: Path
    mask: Path | None
    position: SlicePosition
    size: tuple[int, int]
    values: tuple[float, ...] | None
    classes: ClassValues
    resampled: ResampledMask | None = None

    @property
    def files(self) -> dict[str, Path]:
        """Files or folders of the volumes by role: ``image``, ``mask``."""
        return {"image": self.image} | ({} if self.mask is None else {"mask": self.mask})

    def read(self) -> Case:
        """Read the slice; the whole volume is cached until another one is read.

        Raises
        ------
        InputError
            If the volume cannot be read, or has values that are not finite.
        """
        image = _read_voxels(self.image, _last_change(self.image))[self.position.index]
        return Case(self.name, image, self.labels(), position=self.position)

    def labels(self) -> NDArray[np.uint8] | None:
        """Read class indices (H, W), None without mask; raise InputError if that fails."""
        if self.mask is None:
            return None
        if self.resampled is None:
            stored = _read_labels(self.mask, _last_change(self.mask))
        else:
            stored, _ = _resample(
                self.mask, self.image, _last_change(self.mask), _last_change(self.image)
            )
        return self.classes.indices(stored[self.position.index])


def slices_in(
    files: FolderFiles, masks: Masks, *, resample: bool = False
) -> tuple[dict[str, VolumeSlice], list[StoredMask]]:
    """Return all slices of the volumes of a folder, and their masks, which are read.

    Parameters
    ----------
    files
        Files of the folder.
    masks
        Which volumes to take; see `Masks`.
    resample
        See `slices_of`.

    Raises
    ------
    InputError
        If a file cannot be read, or a mask is on another grid or not finite.
    """
    images, labels = select_by_mask(files.folder, files.images, files.masks, masks)
    slices, stored = dict[str, VolumeSlice](), list[StoredMask]()
    for stem, file in images.items():
        mask = labels.get(stem)
        slices |= slices_of(stem, file, mask, resample=resample)
        stored += [stored_mask_of(mask)] if mask is not None else []
    return slices, stored


def stored_mask_of(file: Path, name: str = "") -> StoredMask:
    """Read the mask of a volume for `read_classes`; raises as `slices_of`."""
    read = partial(_read_labels, file, _last_change(file))
    return StoredMask(name or str(file), MaskValues.of(read()), read)


def slices_of(
    stem: str, file: Path, mask: Path | None, *, resample: bool = False
) -> dict[str, VolumeSlice]:
    """Return all slices of a volume by name, with the values of its mask, which is read.

    Parameters
    ----------
    stem
        Name of the volume.
    file, mask
        Paths of the volume and of its mask; None without mask.
    resample
        Whether to resample a mask on another grid to that of its image.

    Raises
    ------
    InputError
        If a file cannot be read, the image has no spacing, or the mask is on
        another grid (`GridMismatch`) or not finite.
    """
    volume = open_volume(file)
    depth, height, width = volume.shape
    if volume.spacing is None:
        raise InputError(
            f"{file} is a volume of {depth} slices without spacing; "
            "expected millimetres along each axis"
        )
    stored, resampled = None, None
    if mask is not None and _on_one_grid(volume, mask, resample):
        stored = _read_labels(mask, _last_change(mask))
    elif mask is not None:
        stored, resampled = _resample(mask, file, _last_change(mask), _last_change(file))
    slices = {}
    for index in range(depth):
        name = slice_name(stem, index, depth)
        values = None if stored is None else MaskValues.of(stored[index]).values
        position = SlicePosition(stem, index, depth, volume.spacing)
        slices[name] = VolumeSlice(
            name, file, mask, position, (height, width), values, ClassValues(BINARY), resampled
        )
    return slices


class GridMismatch(InputError):
    """A mask is on another grid than its image, and could be resampled."""


def _on_one_grid(volume: Volume, mask: Path, resample: bool) -> bool:
    """Whether a mask is on the grid of its image; if not, raise unless it is to be resampled."""
    mask_grid, image_grid = Grid.of_volume(open_volume(mask)), Grid.of_volume(volume)
    differences = mask_grid.differences(image_grid)
    if not differences:
        return True
    have_affines = mask_grid.affine is not None and image_grid.affine is not None
    if have_affines and resample:
        return False
    sentence = f"{mask} lies on another grid than {volume.path}: {', '.join(differences)}"
    if not have_affines:
        raise InputError(f"{sentence}; expected one grid")
    raise GridMismatch(
        f"{sentence}; expected one grid, or resampling (resample_masks) if both lie in one space"
    )


@lru_cache(maxsize=1)
def _resample(
    mask: Path, image: Path, changed: int, _image_changed: int
) -> tuple[NDArray[np.integer], ResampledMask]:
    """Resample labels to the grid of the image; times of change are part of the cache key."""
    mask_grid, image_grid = (Grid.of_volume(open_volume(path)) for path in (mask, image))
    return resample_labels(_read_labels(mask, changed), mask_grid, image_grid, str(mask))


def _last_change(path: Path) -> int:
    """Return the latest modification time of a file, or of a folder and its entries, in ns."""
    entries = list(path.iterdir()) if path.is_dir() else []
    return max(entry.stat().st_mtime_ns for entry in [path, *entries])


@lru_cache(maxsize=1)
def _read_voxels(file: Path, _changed: int) -> NDArray[Any]:
    """Read voxels as int16 if they are integers in its range, else as float32."""
    voxels = np.asarray(open_volume(file).voxels)
    if not np.isfinite(voxels).all():
        raise InputError(f"{file} has values that are NaN or infinite; expected none")
    low, high = voxels.min(), voxels.max()
    integers = voxels.dtype.kind in "iu" or bool((voxels == np.round(voxels)).all())
    fits = integers and low >= np.iinfo(np.int16).min and high <= np.iinfo(np.int16).max
    return voxels.astype(np.int16 if fits else np.float32)


@lru_cache(maxsize=1)
def _read_labels(file: Path, _changed: int) -> NDArray[Any]:
    labels = np.asarray(open_volume(file).voxels)
    if not np.isfinite(labels).all():
        raise InputError(f"{file} has values that are NaN or infinite; expected labels")
    integers = labels.astype(np.int32)
    if (integers != labels).any():
        return labels.astype(np.float32)
    low, high = int(integers.min()), int(integers.max())
    return integers.astype(np.uint8) if low >= 0 and high <= np.iinfo(np.uint8).max else integers
