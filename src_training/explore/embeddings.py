"""Semantic vectors of patches: E(F) of images, z_y of masks (GKD, arXiv 2207.12995).

Images are tiled by patches of the training size, because the encoder's
perceptron is made for this size (*reconstruction*).
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from src_training.alignment.alignment_network import SemanticEncoder
from src_training.alignment.semantic_autoencoder import SemanticAutoencoder
from src_training.data.domain import Domain
from src_training.data.prepared import PreparedCase, prepare_cases
from src_training.data.preprocessing import Preprocessing
from src_training.errors import InputError
from src_training.evaluation.metrics import class_dice
from src_training.explore.embedding_table import EmbeddingTable, concatenate
from src_training.explore.patches import PatchViews, ViewGenerator, cut_patches
from src_training.inference.bn_adaptation import BatchNormAdaptation
from src_training.inference.model_file import SegmentationModel
from src_training.inference.predictor import labels_from
from src_training.networks.base import SegmentationNetwork
from src_training.networks.fanet import FANet

Array = NDArray[np.float64]

_BATCH = 8


@torch.inference_mode()
def encode_batches(
    encode: Callable[..., Tensor], *inputs: Tensor | NDArray[Any], device: torch.device
) -> Array:
    """Apply an encoder to N patches, eight at a time.

    Parameters
    ----------
    encode
        Function of a batch of each of the inputs that returns vectors (B, latent).
    inputs
        Arrays or tensors whose first dimension is N.
    device
        Device of the encoder.

    Returns
    -------
    ndarray
        (N, latent) float64.
    """
    parts = [encode(*batch).cpu() for batch in _batches(inputs, device)]
    return torch.cat(parts).double().numpy()


def encode_images(
    network: SegmentationNetwork, encoder: SemanticEncoder, images: Tensor | NDArray[Any]
) -> Array:
    """Vectors E(F) (N, latent) of the bottlenecks F of image patches (N, C, patch, patch)."""

    def encode(batch: Tensor) -> Tensor:
        vectors: Tensor = encoder(network.encode(batch)[1])
        return vectors

    return encode_batches(encode, images, device=_device(network))


def encode_masks(
    autoencoder: SemanticAutoencoder, masks: NDArray[Any], images: NDArray[Any]
) -> Array:
    """Vectors z_y (N, latent) of class masks (N, patch, patch) by P-SAE.

    A P-SAE of images encodes `images` (N, C, patch, patch) instead.
    """
    return encode_batches(autoencoder.vectors, masks, images, device=_device(autoencoder))


def image_vectors(
    model: SegmentationModel, domain: Domain, cases: Iterable[PreparedCase] | None = None
) -> Array:
    """Vectors E(F) (N, latent) of the patches of a domain, in reading order; no masks needed.

    Parameters
    ----------
    model
        Model with a semantic encoder.
    domain
        Domain with at least one image.
    cases
        Result of `prepare_cases` for this domain, if already computed.

    Raises
    ------
    InputError
        If the model has no semantic encoder, or an image cannot be prepared.
    """
    encoder = _semantic_encoder(model)
    if cases is None:
        cases = prepare_cases(domain, model.card.preprocessing)
    patches = [patch for case in cases for patch in cut_patches(case, model.card.patch)]
    return encode_images(
        model.network, encoder, np.concatenate([patch.images for patch in patches])
    )


def mask_vectors(
    autoencoder: SemanticAutoencoder,
    domain: Domain,
    preprocessing: Preprocessing,
    side: int,
    cases: Iterable[PreparedCase] | None = None,
) -> Array:
    """Vectors z_y (N, latent) by P-SAE of the masks of the same patches.

    Parameters
    ----------
    autoencoder
        P-SAE.
    domain
        Domain with at least one image, all with masks.
    preprocessing
        Preprocessing of the images, whose grid the patches are cut from.
    side
        Side of the autoencoder's patches, pixels.
    cases
        See `image_vectors`.

    Raises
    ------
    InputError
        If an image has no mask or cannot be prepared.
    """
    if cases is None:
        cases = prepare_cases(domain, preprocessing)
    patches = [patch for case in cases for patch in cut_patches(case, side)]
    masks = [patch.masks for patch in patches if patch.masks is not None]
    if len(masks) < len(patches):
        raise InputError(f"{domain.name} has images without mask; expected one for every image")
    return encode_masks(
        autoencoder,
        np.concatenate(masks),
        np.concatenate([patch.images for patch in patches]),
    )


class PatchEmbedder:
    """Compute the rows of an `EmbeddingTable` from prepared images.

    Parameters
    ----------
    model, views, seed, autoencoder
        See `extract`.

    Attributes
    ----------
    fingerprint
        Cache key of all settings that the rows depend on.

    Raises
    ------
    InputError
        See `extract`.
    """

    def __init__(
        self,
        model: SegmentationModel,
        *,
        views: int = 0,
        seed: int = 0,
        autoencoder: SemanticAutoencoder | None = None,
    ) -> None:
        self._model, self._encoder = model, _semantic_encoder(model)
        if views < 0:
            raise InputError(f"views is {views}; expected 0 or more")
        self._count = views
        self._adaptation = BatchNormAdaptation(model.network)
        self._views: ViewGenerator | None = None
        if views:
            if model.card.augmentation is None:
                raise InputError(
                    f"the card of model {model.card.name} has no augmentation; expected one to "
                    "make views by"
                )
            self._views = ViewGenerator(model.card.augmentation, model.card.patch, views, seed)
        if autoencoder is not None:
            _check_autoencoder(model, autoencoder)
        self._autoencoder = autoencoder
        self.fingerprint = self._fingerprint(seed)

    def rows(self, case: PreparedCase, domain: str) -> EmbeddingTable:
        """All rows of an image: patches in reading order, each followed by its views, then masks.

        Raises
        ------
        InputError
            If the mask has a class that the model does not have.
        """
        self._check_classes(case, domain)
        patches = [self._with_views(patch) for patch in cut_patches(case, self._model.card.patch)]
        corners = np.array([patch.corner for patch in patches], np.int64)
        areas, views = np.stack([self._areas(patch) for patch in patches]), 1 + self._count
        images = np.concatenate([patch.images for patch in patches])
        table = EmbeddingTable.of_case(
            domain,
            case.original.name,
            "image",
            values=encode_images(self._model.network, self._encoder, images),
            corners=np.repeat(corners, views, axis=0),
            views=np.tile(np.arange(views), len(patches)),
            areas=np.repeat(areas, views, axis=0),
            dice=self._dice(patches, images),
        )
        masks = [patch.masks[0] for patch in patches if patch.masks is not None]
        if self._autoencoder is None or not masks:
            return table
        mask_table = EmbeddingTable.of_case(
            domain,
            case.original.name,
            "mask",
            values=encode_masks(self._autoencoder, np.stack(masks), images[::views]),
            corners=corners,
            views=np.zeros(len(patches), np.int64),
            areas=areas,
            dice=np.full(len(patches), np.nan),
        )
        return concatenate([table, mask_table])

    def views(self, case: PreparedCase, corner: tuple[int, int]) -> PatchViews:
        """Cut the patch at a corner of `patch_corners`, with the same views as in `rows`."""
        [patch] = cut_patches(case, self._model.card.patch, [corner])
        return self._with_views(patch)

    def _with_views(self, patch: PatchViews) -> PatchViews:
        return patch if self._views is None else self._views(patch)

    @torch.inference_mode()
    def _dice(self, patches: list[PatchViews], images: NDArray[np.float32]) -> Array:
        """Dice (N,) of all patches and views; NaN without mask or outside the field of view."""
        if patches[0].masks is None:
            return np.full(len(images), np.nan)
        masks = np.concatenate([patch.masks for patch in patches if patch.masks is not None])
        fovs = np.concatenate([patch.fovs for patch in patches])
        return np.array(
            [
                class_dice(labels[fov], mask[fov], self._classes).mean() if fov.any() else np.nan
                for labels, mask, fov in zip(
                    self._labels(patches, images), masks, fovs, strict=True
                )
            ]
        )

    def _labels(
        self, patches: list[PatchViews], images: NDArray[np.float32]
    ) -> list[NDArray[np.uint8]]:
        """Labels of all patches and views, with batch norm statistics and threshold per image."""
        card, network, views = self._model.card, self._model.network, 1 + self._count
        if card.bn_mixing:
            originals = _batches([images[::views]], _device(network))
            network = self._adaptation.adapt((batch for [batch] in originals), card.bn_mixing)
        batches = _batches([images], _device(network))
        probabilities = np.concatenate(
            [network(batch).softmax(1).cpu().numpy() for [batch] in batches]
        )
        # The threshold of an image depends on its patches, not on their views.
        inside = [
            maps * patch.fovs[0]
            for maps, patch in zip(probabilities[::views], patches, strict=True)
        ]
        threshold = card.threshold_for(np.concatenate(inside, axis=1))
        return [labels_from(maps, threshold) for maps in probabilities]

    def _areas(self, patch: PatchViews) -> Array:
        """Share of each foreground class in the field of view, (classes - 1,)."""
        if patch.masks is None or not patch.fovs[0].any():
            return np.full(self._classes - 1, np.nan)
        inside = patch.masks[0][patch.fovs[0]]
        areas: Array = np.bincount(inside, minlength=self._classes)[1:] / inside.size
        return areas

    @property
    def _classes(self) -> int:
        return len(self._model.card.classes)

    def _check_classes(self, case: PreparedCase, domain: str) -> None:
        mask = case.original.mask
        if mask is not None and mask.max() >= self._classes:
            raise InputError(
                f"{domain}/{case.original.name}: the mask holds class {mask.max()}; expected the "
                f"{self._classes} classes of model {self._model.card.name}"
            )

    def _fingerprint(self, seed: int) -> str:
        card = self._model.card
        parts: list[object] = [self._model.sha256, card.preprocessing.model_dump_json()]
        parts.append(card.bn_mixing)
        # Without views the rows do not depend on the seed.
        parts += [self._count, seed if self._count else 0]
        if self._autoencoder is not None:
            digest = hashlib.sha256()
            for name, tensor in self._autoencoder.state_dict().items():
                digest.update(name.encode())
                digest.update(tensor.cpu().contiguous().numpy().data)
            parts.append(digest.hexdigest())
        return " ".join(map(str, parts))


def _semantic_encoder(model: SegmentationModel) -> SemanticEncoder:
    if model.semantics is None:
        raise InputError(
            f"model {model.card.name} has no semantic encoder; expected one written by a "
            "distillation run or by msankd align"
        )
    return model.semantics


def _check_autoencoder(model: SegmentationModel, autoencoder: SemanticAutoencoder) -> None:
    card, encoder = model.card, autoencoder.alignment.encoder
    sizes = {
        "classes": (autoencoder.foreground + 1, len(card.classes)),
        "patch": (encoder.grid[0] * FANet.stride, card.patch),
    }
    if card.semantics is not None:
        sizes["latent size"] = (encoder.latent, card.semantics.latent)
    for what, (size, expected) in sizes.items():
        if size != expected:
            raise InputError(
                f"the autoencoder's {what} is {size}; expected {expected}, as of model {card.name}"
            )


def _batches(
    inputs: Sequence[Tensor | NDArray[Any]], device: torch.device
) -> Iterator[list[Tensor]]:
    tensors = [torch.as_tensor(array) for array in inputs]
    for start in range(0, len(tensors[0]), _BATCH):
        yield [tensor[start : start + _BATCH].to(device) for tensor in tensors]


def _device(module: nn.Module) -> torch.device:
    return next(module.parameters()).device
