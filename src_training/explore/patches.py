"""Patches of a prepared image and their augmented views."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from src_training.data.augmentation import Augmentation, Augmenter
from src_training.data.prepared import PreparedCase
from src_training.data.preprocessing.geometry import Float, Mask
from src_training.data.sampling import crop_patch, patch_corners
from src_training.seeds import drawing, step_seed


@dataclass(frozen=True, eq=False)
class PatchViews:
    """A patch and its K augmented views, the patch first.

    Attributes
    ----------
    case
        Name of the image.
    corner
        Top and left of the patch, pixels of the prepared image.
    images
        (1 + K, C, patch, patch) float32 in [0, 1], the network's input.
    masks
        (1 + K, patch, patch) uint8 class indices; None without mask.
    fovs
        (1 + K, patch, patch) bool, the field of view.
    """

    case: str
    corner: tuple[int, int]
    images: Float
    masks: NDArray[np.uint8] | None
    fovs: Mask


def cut_patches(
    case: PreparedCase, side: int, corners: list[tuple[int, int]] | None = None
) -> Iterator[PatchViews]:
    """Cut patches from a prepared image, without augmented views.

    Parameters
    ----------
    case
        Case with or without mask.
    side
        Side of the patches, pixels of the prepared image.
    corners
        Top and left of each patch; None for `patch_corners`, which tile the image.
    """
    image, mask = case.image, case.image.mask
    for corner in patch_corners(image.fov, side) if corners is None else corners:
        pixels, fov = (crop_patch(array, corner, side) for array in (image.pixels, image.fov))
        masks = None if mask is None else crop_patch(mask, corner, side)[None]
        yield PatchViews(case.original.name, corner, pixels[None], masks, fov[None])


class ViewGenerator:
    """Add augmented views to patches: a symmetry of the square, then style augmentation.

    The symmetries are those that the augmentation's flips and rotations allow.
    Unlike other rotations they need no interpolation, so that masks and fields
    of view remain exact.

    Parameters
    ----------
    augmentation
        Strength of the augmentation.
    side
        Side of the patches, pixels.
    count
        Number of views of each patch, K.
    seed
        Seed of the views. Views only depend on the seed, the name of the image
        and the corner of the patch, so that they are the same in every call.
    """

    def __init__(self, augmentation: Augmentation, side: int, count: int, seed: int) -> None:
        self._augmenter = Augmenter(augmentation, side)
        quarters = [k for k in range(4) if 90 * min(k, 4 - k) <= augmentation.turn]
        mirrored = range(1 + augmentation.flips)
        self._symmetries = [k + 4 * mirror for mirror in mirrored for k in quarters]
        self._count, self._seed = count, seed

    def __call__(self, patch: PatchViews) -> PatchViews:
        """Return the patch with its views."""
        top, left = patch.corner
        with drawing(step_seed(self._seed, patch.case, f"{top}/{left}")):
            indices = torch.randint(len(self._symmetries), (self._count,)).tolist()
            symmetries = [self._symmetries[index] for index in indices]
            transformed = np.stack(
                [_transformed(patch.images[0], symmetry) for symmetry in symmetries]
            )
            styled = self._augmenter.style_augmentation(torch.from_numpy(transformed)).numpy()
        symmetries = [0, *symmetries]
        masks = patch.masks
        if masks is not None:
            masks = np.stack([_transformed(masks[0], symmetry) for symmetry in symmetries])
        return PatchViews(
            patch.case,
            patch.corner,
            np.concatenate([patch.images[:1], styled]),
            masks,
            np.stack([_transformed(patch.fovs[0], symmetry) for symmetry in symmetries]),
        )


def _transformed(array: NDArray[Any], symmetry: int) -> NDArray[Any]:
    """Apply symmetry 0 to 7 of the square, where 0 is the identity, to an array (..., n, n)."""
    mirrored = array[..., ::-1] if symmetry >= 4 else array
    return np.ascontiguousarray(np.rot90(mirrored, symmetry % 4, (-2, -1)))
