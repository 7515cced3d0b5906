"""Domains as semantic vectors: what FSD compares."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from src_training.alignment.semantic_autoencoder import SemanticAutoencoder
from src_training.data.domain import Domain
from src_training.data.prepared import PreparedImage, prepared_images
from src_training.data.preprocessing import Preprocessing
from src_training.data.sampling import crop_patch, patch_corners
from src_training.errors import InputError
from src_training.inference.model_file import SegmentationModel

_BATCH = 8


@dataclass(frozen=True)
class SemanticVectors:
    """The semantic vectors of a domain, one per patch.

    Attributes
    ----------
    values
        (N, latent) float64.
    cases
        Name of the case of each row.
    corners
        (N, 2) top and left of each patch on the prepared grid, pixels.
    """

    values: NDArray[np.float64]
    cases: tuple[str, ...]
    corners: NDArray[np.int64]


@dataclass(frozen=True)
class _Patch:
    case: str
    corner: tuple[int, int]
    image: NDArray[np.float32]
    mask: NDArray[np.uint8] | None


def image_vectors(
    model: SegmentationModel, domain: Domain, images: Iterable[PreparedImage] | None = None
) -> SemanticVectors:
    """Vectors E(F) of patches side by side over the images of a domain (no masks needed).

    GKD (arXiv 2207.12995); that a domain is sampled by patches of the
    training size is our *reconstruction*: the encoder's perceptron is of that size.

    Parameters
    ----------
    model
        With its semantic encoder.
    domain
        What is sampled.
    images
        What `prepared_images` makes of the domain, where it is there already.

    Raises
    ------
    InputError
        If the model came without a semantic encoder, or an image cannot be
        prepared.
    """
    encoder, network = model.semantics, model.network
    if encoder is None:
        raise InputError(
            f"model {model.card.name} has no semantic encoder; expected one written by a "
            "distillation run or by msankd align"
        )
    device = next(network.parameters()).device

    def encode(images: Tensor, _masks: Tensor | None) -> Tensor:
        vectors: Tensor = encoder(network.encode(images.to(device))[1])
        return vectors

    if images is None:
        images = prepared_images(domain, model.card.preprocessing)
    return _encoded(_patches(images, model.card.patch), encode)


def mask_vectors(
    autoencoder: SemanticAutoencoder,
    domain: Domain,
    preprocessing: Preprocessing,
    patch: int,
    images: Iterable[PreparedImage] | None = None,
) -> SemanticVectors:
    """Vectors z_y that P-SAE makes of the masks of the same patches.

    GKD (arXiv 2207.12995).

    Parameters
    ----------
    autoencoder
        P-SAE; one that reads images makes the vectors of those.
    domain
        With masks.
    preprocessing
        From a raw image to the grid that patches are cut from.
    patch
        Side of the patches that the autoencoder was made for, pixels.
    images
        As in `image_vectors`.

    Raises
    ------
    InputError
        If an image has no mask or cannot be prepared.
    """
    device = next(autoencoder.parameters()).device

    def encode(images: Tensor, masks: Tensor | None) -> Tensor:
        if masks is None:
            raise InputError(f"{domain.name} has images without mask; expected one for every image")
        return autoencoder.vectors(masks.to(device), images.to(device))

    if images is None:
        images = prepared_images(domain, preprocessing)
    return _encoded(_patches(images, patch), encode)


def _patches(images: Iterable[PreparedImage], side: int) -> Iterator[_Patch]:
    for image in images:
        case, prepared = image.case, image.prepared
        mask = None
        if case.mask is not None:
            mask = prepared.geometry.to_prepared(case.mask).astype(np.uint8)
        for corner in patch_corners(prepared.fov, side):
            patch = crop_patch(prepared.pixels, corner, side)
            yield _Patch(
                case.name, corner, patch, None if mask is None else crop_patch(mask, corner, side)
            )


@torch.inference_mode()
def _encoded(
    patches: Iterator[_Patch], encode: Callable[[Tensor, Tensor | None], Tensor]
) -> SemanticVectors:
    values, kept = [], list(patches)
    for start in range(0, len(kept), _BATCH):
        batch = kept[start : start + _BATCH]
        images = torch.from_numpy(np.stack([patch.image for patch in batch]))
        masks = [patch.mask for patch in batch if patch.mask is not None]
        stacked = torch.from_numpy(np.stack(masks)) if len(masks) == len(batch) else None
        values.append(encode(images, stacked).cpu().double().numpy())
    return SemanticVectors(
        np.concatenate(values),
        tuple(patch.case for patch in kept),
        np.array([patch.corner for patch in kept]),
    )
