"""A case, one image of a domain with its mask, in memory or on disk."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from src_training.data.classes import ClassValues, StoredMask
from src_training.errors import InputError
from src_training.io.images import read_image
from src_training.io.masks import field_of_view, read_mask, read_mask_values
from src_training.io.volumes.grid import format_size

Masks = Literal["required", "optional", "present", "absent"]
"""Images of a folder that are cases. ``required``: all, and each must have a mask.
``optional``: all. ``present`` or ``absent``: only those with, or without, a mask."""


@dataclass(frozen=True)
class SlicePosition:
    """Position of a slice in its volume.

    Attributes
    ----------
    volume
        Name of the volume.
    index
        Index of the slice, from 0.
    depth
        Number of slices of the volume.
    spacing
        Distance between slices, rows and columns, mm.
    """

    volume: str
    index: int
    depth: int
    spacing: tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Case:
    """One image of a domain.

    Attributes
    ----------
    name
        Stem of the files, or name of the layer.
    image
        (H, W) or (H, W, C), any real dtype.
    mask
        (H, W) uint8 class indices, 0 is background; None if there is none.
    fov
        (H, W) bool field of view; None if there is none.
    position
        Position in a volume; None if the image is not a slice.
    """

    name: str
    image: NDArray[Any]
    mask: NDArray[np.uint8] | None = None
    fov: NDArray[np.bool_] | None = None
    position: SlicePosition | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, pixels."""
        return self.image.shape[0], self.image.shape[1]

    @property
    def values(self) -> tuple[int, ...] | None:
        """Class indices in the mask, ascending; None without mask."""
        return None if self.mask is None else tuple(np.unique(self.mask).tolist())

    @property
    def files(self) -> dict[str, Path]:
        """No files, because the case is in memory."""
        return {}

    def read(self) -> "Case":
        """Return the case itself, for the interface of `CaseFiles`."""
        return self


@dataclass(frozen=True)
class CaseFiles:
    """A case on disk: its files, the image size and the values in the mask.

    Attributes
    ----------
    name
        Stem of the files.
    image, mask, fov
        Paths; None without mask or field of view.
    size
        Height and width, pixels.
    values
        Values stored in the mask file; None without mask.
    classes
        Mapping of stored values to class indices.
    """

    name: str
    image: Path
    mask: Path | None
    fov: Path | None
    size: tuple[int, int]
    values: tuple[float, ...] | None
    classes: ClassValues

    @property
    def position(self) -> None:
        """None, because images are not slices of a volume."""

    @property
    def files(self) -> dict[str, Path]:
        """Files by role: ``image``, ``mask``, ``fov``."""
        files = {"image": self.image, "mask": self.mask, "fov": self.fov}
        return {role: file for role, file in files.items() if file is not None}

    def read(self) -> Case:
        """Read the files; raise InputError if one has changed or is broken."""
        image = read_image(self.image)
        if image.shape[:2] != self.size or image.ndim > 3:
            raise InputError(
                f"{self.image} has shape {image.shape}; "
                f"expected a single image of {format_size(self.size)}"
            )
        mask = (
            None if self.mask is None else self.classes.indices(read_labels(self.mask, self.size))
        )
        fov = None if self.fov is None else field_of_view(read_labels(self.fov, self.size))
        return Case(self.name, image, mask, fov)


def in_memory(
    name: str,
    image: NDArray[Any],
    mask: NDArray[Any] | None,
    fov: NDArray[Any] | None,
    classes: int,
) -> Case:
    """Make a case from arrays, and check that they are consistent.

    Parameters
    ----------
    name
        Name of the case.
    image
        (H, W) or (H, W, C).
    mask
        (H, W) of class indices below `classes`; None if there is none.
    fov
        (H, W), non-zero inside the field of view; None if there is none.
    classes
        Number of classes, background included.

    Raises
    ------
    InputError
        If the shape of an array, or a value of the mask, is invalid.
    """
    if image.ndim not in (2, 3):
        raise InputError(f"image {name} has shape {image.shape}; expected (H, W) or (H, W, C)")
    size = image.shape[:2]
    for what, array in (("mask", mask), ("field of view", fov)):
        if array is not None:
            require_size(array.shape, size, f"the {what} of {name}")
    if mask is not None and (
        mask.dtype.kind not in "bui" or ((mask < 0) | (mask >= classes)).any()
    ):
        raise InputError(
            f"the mask of {name} holds {mask.dtype} from {mask.min()} to {mask.max()}; "
            f"expected class indices from 0 to {classes - 1}"
        )
    indices = None if mask is None else mask.astype(np.uint8)
    return Case(name, image, indices, None if fov is None else fov.astype(bool))


def read_labels(path: Path, size: tuple[int, int]) -> NDArray[Any]:
    """Return the stored values (H, W) of a mask file; InputError if it is not of `size`."""
    labels = read_mask(path)
    require_size(labels.shape, size, path)
    return labels


def stored_mask(path: Path, size: tuple[int, int]) -> StoredMask:
    """Read a mask file for `read_classes`; InputError if it is not of `size`."""
    labels, values = read_mask_values(path)
    require_size(labels.shape, size, path)
    return StoredMask(str(path), values, partial(read_mask, path))


def select_by_mask(
    folder: Path, images: Mapping[str, Path], labels: Mapping[str, Path], masks: Masks
) -> tuple[dict[str, Path], dict[str, Path]]:
    """Select the images by stem according to `masks`, and their masks.

    Raises
    ------
    InputError
        If `masks` is ``present`` or ``absent`` and selects no image.
    """
    if masks in ("required", "optional"):
        return dict(images), dict(labels)
    wanted = masks == "present"
    chosen = {stem: file for stem, file in images.items() if (stem in labels) == wanted}
    if not chosen:
        found, expected = ("no", "one") if wanted else ("every", "one without")
        raise InputError(f"{folder}: {found} image has a mask; expected at least {expected}")
    return chosen, {stem: labels[stem] for stem in chosen} if wanted else {}


def require_size(found: Sequence[int], expected: Sequence[int], what: object) -> None:
    """Raise InputError unless a mask (named `what` in the error) has the size of its image."""
    if tuple(found) != tuple(expected):
        raise InputError(
            f"{what} is {format_size(found)}; expected {format_size(expected)}, as its image"
        )
