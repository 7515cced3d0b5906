"""Semantic vectors of patches: E(F) of images, z_y of masks (GKD, arXiv 2207.12995).

Domains are sampled by patches of the training size, side by side: the
encoder's perceptron has that size (*reconstruction*).
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
        Takes a batch of each of the inputs, gives vectors (B, latent).
    inputs
        Arrays or tensors whose first dimension is N.
    device
        The encoder's.

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
    """Vectors E(F) (N, latent) of image patches (N, C, patch, patch) by their bottlenecks F."""

    def encode(batch: Tensor) -> Tensor:
        vectors: Tensor = encoder(network.encode(batch)[1])
        return vectors

    return encode_batches(encode, images, device=_device(network))


def encode_masks(
    autoencoder: SemanticAutoencoder, masks: NDArray[Any], images: NDArray[Any]
) -> Array:
    """Vectors z_y (N, latent) of class masks (N, patch, patch) by P-SAE.

    A P-SAE that reads images makes them of `images` (N, C, patch, patch).
    """
    return encode_batches(autoencoder.vectors, masks, images, device=_device(autoencoder))


def image_vectors(
    model: SegmentationModel, domain: Domain, cases: Iterable[PreparedCase] | None = None
) -> Array:
    """Vectors E(F) (N, latent) of the patches of a domain, in reading order; no masks needed.

    Parameters
    ----------
    model
        With its semantic encoder.
    domain
        At least one image.
    cases
        The result of `prepare_cases` for this domain, if it has been computed already.

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
    """Vectors z_y (N, latent) that P-SAE makes of the masks of the same patches.

    Parameters
    ----------
    autoencoder
        P-SAE.
    domain
        At least one image, each with a mask.
    preprocessing
        From a raw image to the grid that patches are cut from.
    side
        Side of the patches that the autoencoder was made for, pixels.
    cases
        As in `image_vectors`.

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
    """Makes the rows of an `EmbeddingTable` from prepared images.

    Parameters
    ----------
    model, views, seed, autoencoder
        See `extract`.

    Attributes
    ----------
    fingerprint
        Differs between embedders that give different rows for the same image.

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
        """All rows of an image: its patches in reading order, each before its views; masks last.

        Raises
        ------
        InputError
            If the mask holds a class that the model does not have.
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
        of_masks = EmbeddingTable.of_case(
            domain,
            case.original.name,
            "mask",
            values=encode_masks(self._autoencoder, np.stack(masks), images[::views]),
            corners=corners,
            views=np.zeros(len(patches), np.int64),
            areas=areas,
            dice=np.full(len(patches), np.nan),
        )
        return concatenate([table, of_masks])

    def views(self, case: PreparedCase, corner: tuple[int, int]) -> PatchViews:
        """The patch at a corner of `patch_corners` with its views, as `rows` encodes them."""
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
        each = zip(self._labels(patches, images), masks, fovs, strict=True)
        return np.array(
            [
                class_dice(labels[fov], mask[fov], self._classes).mean() if fov.any() else np.nan
                for labels, mask, fov in each
            ]
        )

    def _labels(
        self, patches: list[PatchViews], images: NDArray[np.float32]
    ) -> list[NDArray[np.uint8]]:
        """Labels of all patches and views, by the statistics and the threshold of their image."""
        card, network, views = self._model.card, self._model.network, 1 + self._count
        if card.bn_mixing:
            plain = _batches([images[::views]], _device(network))
            network = self._adaptation.adapt((batch for [batch] in plain), card.bn_mixing)
        batches = _batches([images], _device(network))
        maps = np.concatenate([network(batch).softmax(1).cpu().numpy() for [batch] in batches])
        of_image = [
            each * patch.fovs[0] for each, patch in zip(maps[::views], patches, strict=True)
        ]
        threshold = card.threshold_for(np.concatenate(of_image, axis=1))
        return [labels_from(each, threshold) for each in maps]

    def _areas(self, patch: PatchViews) -> Array:
        """Share of the field of view that each foreground class covers, (classes - 1,)."""
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
        # Without views the seed changes nothing.
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
    tensors = [torch.as_tensor(each) for each in inputs]
    for start in range(0, len(tensors[0]), _BATCH):
        yield [each[start : start + _BATCH].to(device) for each in tensors]


def _device(module: nn.Module) -> torch.device:
    return next(module.parameters()).device
