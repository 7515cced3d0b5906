"""Domains as semantic vectors: what FSD compares."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from src_training.alignment.autoencoder import SemanticAutoencoder
from src_training.data.domain import Domain
from src_training.data.patches import cut, patch_corners
from src_training.data.preprocess import Preprocessing
from src_training.errors import InputError
from src_training.inference.model import SegmentationModel

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


def image_vectors(model: SegmentationModel, domain: Domain) -> SemanticVectors:
    """Vectors E(F) of patches side by side over the images of a domain (no masks needed).

    GKD (arXiv 2207.12995); that a domain is sampled by patches of the
    training size is our *reconstruction*: the encoder's perceptron is of that size.

    Raises
    ------
    InputError
        If the model came without a semantic encoder.
    """
    encoder, network = model.semantics, model.network
    if encoder is None:
        raise InputError(
            f"model {model.card.name} has no semantic encoder; expected one written by a "
            "distillation run"
        )
    device = next(network.parameters()).device

    def encode(images: Tensor, _masks: Tensor | None) -> Tensor:
        vectors: Tensor = encoder(network.encode(images.to(device))[1])
        return vectors

    return _encoded(_patches(domain, model.card.preprocessing, model.card.patch), encode)


def mask_vectors(
    autoencoder: SemanticAutoencoder, domain: Domain, preprocessing: Preprocessing, patch: int
) -> SemanticVectors:
    """Vectors z_y that P-SAE makes of the masks of the same patches.

    Raises
    ------
    InputError
        If the domain has no masks.
    """
    device = next(autoencoder.parameters()).device

    def encode(_images: Tensor, masks: Tensor | None) -> Tensor:
        if masks is None:
            raise InputError(f"{domain.name} has images without mask; expected one for every image")
        return autoencoder.vectors(masks.to(device))

    return _encoded(_patches(domain, preprocessing, patch), encode)


def _patches(domain: Domain, preprocessing: Preprocessing, side: int) -> Iterator[_Patch]:
    for case in domain:
        try:
            prepared = preprocessing.prepare(case.image, case.fov)
        except InputError as error:
            raise InputError(f"{domain.name}/{case.name}: {error}") from None
        mask = None
        if case.mask is not None:
            mask = prepared.geometry.to_prepared(case.mask).astype(np.uint8)
        for corner in patch_corners(prepared.fov, side):
            image = cut(prepared.pixels, corner, side)
            yield _Patch(
                case.name, corner, image, None if mask is None else cut(mask, corner, side)
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
