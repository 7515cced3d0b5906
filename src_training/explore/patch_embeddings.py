"""From a prepared image to the rows of a table: patches, their views, their masks."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from src_training.alignment.semantic_autoencoder import SemanticAutoencoder
from src_training.data.augmentation import Augmentation, Augmenter
from src_training.data.prepared import PreparedImage
from src_training.data.sampling import crop_patch, patch_corners
from src_training.errors import InputError
from src_training.explore.embedding_table import EmbeddingTable, Kind
from src_training.inference.bn_adaptation import adapt_batch_norm
from src_training.inference.model_card import ModelCard
from src_training.inference.model_file import SegmentationModel
from src_training.inference.predictor import labels_from
from src_training.networks.fanet import FANet
from src_training.seeds import drawing, step_seed

_BATCH = 8

Float = NDArray[np.float32]
Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PatchViews:
    """A patch and its augmented views, the patch first.

    Attributes
    ----------
    images
        (1 + K, C, patch, patch) float32 in [0, 1], what the network sees.
    mask
        (1 + K, patch, patch) uint8 classes; None without mask.
    fov
        (1 + K, patch, patch) bool, the pixels that count.
    """

    images: Float
    mask: NDArray[np.uint8] | None
    fov: NDArray[np.bool_]


class PatchEmbedder:
    """Encodes the images of domains patch by patch.

    Parameters
    ----------
    model, views, seed, autoencoder
        See `extract`.

    Attributes
    ----------
    stamp
        Tells encoders apart that give different rows.

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
        if model.semantics is None:
            raise InputError(
                f"model {model.card.name} has no semantic encoder; expected one written by a "
                "distillation run or by msankd align"
            )
        if views < 0:
            raise InputError(f"views is {views}; expected 0 or more")
        self._model, self._semantics = model, model.semantics
        self._count, self._seed = views, seed
        self._views = Augmenter(augmentation_of(model.card), model.card.patch) if views else None
        self._symmetries = _symmetries(self._views.augmentation) if self._views else []
        if autoencoder is not None:
            _refuse_autoencoder(model, autoencoder)
        self._autoencoder = autoencoder
        self.stamp = self._stamp()

    def rows(self, image: PreparedImage, domain: str) -> EmbeddingTable:
        """All rows of an image: its patches in reading order, each before its views; masks last.

        Raises
        ------
        InputError
            If the mask holds a class that the model does not have.
        """
        self._refuse_classes(image, domain)
        corners = patch_corners(image.prepared.fov, self._model.card.patch)
        patches = [self.patch(image, corner) for corner in corners]
        values, dice = self._encode(patches)
        areas = np.concatenate([self._areas(patch) for patch in patches])
        seen = 1 + self._count
        places = np.repeat(np.array(corners, np.int64), seen, axis=0)
        views = np.tile(np.arange(seen), len(corners))
        rows = len(values)
        if self._autoencoder is not None and patches[0].mask is not None:
            values = np.concatenate([values, self._mask_vectors(patches)])
            places = np.concatenate([places, np.array(corners, np.int64)])
            views = np.concatenate([views, np.zeros(len(corners), np.int64)])
            areas = np.concatenate([areas, areas[::seen]])
            dice = np.concatenate([dice, np.full(len(corners), np.nan)])
        kinds: list[Kind] = ["image" if row < rows else "mask" for row in range(len(values))]
        return EmbeddingTable(
            values=values,
            domains=(domain,) * len(values),
            cases=(image.case.name,) * len(values),
            corners=places,
            views=views,
            areas=areas,
            dice=dice,
            kinds=tuple(kinds),
        )

    def patch(self, image: PreparedImage, corner: tuple[int, int]) -> PatchViews:
        """What the network sees of an image at a corner of `patch_corners`, and its views.

        The views depend on the seed, the name of the image and the corner
        alone: they are the same whenever they are asked for.
        """
        side, prepared = self._model.card.patch, image.prepared
        pixels = crop_patch(prepared.pixels, corner, side)
        fov, mask = crop_patch(prepared.fov, corner, side), None
        if image.case.mask is not None:
            classes = prepared.geometry.to_prepared(image.case.mask).astype(np.uint8)
            mask = crop_patch(classes, corner, side)
        if self._views is None:
            return PatchViews(pixels[None], None if mask is None else mask[None], fov[None])
        with drawing(step_seed(self._seed, image.case.name, f"{corner[0]}/{corner[1]}")):
            drawn = torch.randint(len(self._symmetries), (self._count,)).tolist()
            turns = [self._symmetries[each] for each in drawn]
            turned = np.stack([_turned(pixels, turn) for turn in turns])
            restyled = self._views.restyle(torch.from_numpy(turned)).numpy()
        turns = [0, *turns]
        return PatchViews(
            np.concatenate([pixels[None], restyled]),
            None if mask is None else np.stack([_turned(mask, turn) for turn in turns]),
            np.stack([_turned(fov, turn) for turn in turns]),
        )

    @torch.inference_mode()
    def _encode(self, patches: list[PatchViews]) -> tuple[Array, Array]:
        """Vectors (N, d) and Dice (N,) of all patches and views."""
        network, images = self._model.network, [patch.images for patch in patches]
        bottlenecks = (network.encode(batch)[1] for batch in self._batches(images))
        vectors = [self._semantics(each).cpu().double().numpy() for each in bottlenecks]
        values = np.concatenate(vectors)
        if patches[0].mask is None:
            return values, np.full(len(values), np.nan)
        masks = np.concatenate([patch.mask for patch in patches if patch.mask is not None])
        fovs = np.concatenate([patch.fov for patch in patches])
        labels = self._labels(patches)
        dice = [_dice(*each, self._classes) for each in zip(labels, masks, fovs, strict=True)]
        return values, np.array(dice)

    def _labels(self, patches: list[PatchViews]) -> list[NDArray[np.uint8]]:
        """Of all patches and views, by the statistics and the threshold of their image."""
        card, network = self._model.card, self._model.network
        if card.bn_mixing:
            plain = self._batches([patch.images[:1] for patch in patches])
            network = adapt_batch_norm(plain, network, card.bn_mixing)
        batches = self._batches([patch.images for patch in patches])
        maps = np.concatenate([network(batch).softmax(1).cpu().numpy() for batch in batches])
        of_image = [
            each * patch.fov[0]
            for each, patch in zip(maps[:: 1 + self._count], patches, strict=True)
        ]
        threshold = card.threshold_for(np.concatenate(of_image, axis=1))
        return [labels_from(each, threshold) for each in maps]

    def _batches(self, images: list[Float]) -> Iterator[Tensor]:
        device = next(self._model.network.parameters()).device
        every = np.concatenate(images)
        for start in range(0, len(every), _BATCH):
            yield torch.from_numpy(every[start : start + _BATCH]).to(device)

    @torch.inference_mode()
    def _mask_vectors(self, patches: list[PatchViews]) -> Array:
        assert self._autoencoder is not None
        device = next(self._autoencoder.parameters()).device
        masks = torch.from_numpy(np.stack([p.mask[0] for p in patches if p.mask is not None]))
        images = torch.from_numpy(np.stack([p.images[0] for p in patches]))
        parts: list[Tensor] = [
            self._autoencoder.vectors(
                masks[start : start + _BATCH].to(device), images[start : start + _BATCH].to(device)
            )
            for start in range(0, len(masks), _BATCH)
        ]
        return torch.cat(parts).cpu().double().numpy()

    def _areas(self, patch: PatchViews) -> Array:
        """Share of each foreground class (1 + K, classes - 1)."""
        shape = (len(patch.images), self._classes - 1)
        if patch.mask is None or not patch.fov[0].any():
            return np.full(shape, np.nan)
        inside = patch.mask[0][patch.fov[0]]
        counts = np.bincount(inside, minlength=self._classes)[1:]
        # Turned and restyled, a patch covers what it covered.
        return np.broadcast_to(counts / inside.size, shape)

    @property
    def _classes(self) -> int:
        return len(self._model.card.classes)

    def _refuse_classes(self, image: PreparedImage, domain: str) -> None:
        mask = image.case.mask
        if mask is not None and mask.max() >= self._classes:
            raise InputError(
                f"{domain}/{image.case.name}: the mask holds class {mask.max()}; expected the "
                f"{self._classes} classes of model {self._model.card.name}"
            )

    def _stamp(self) -> str:
        card = self._model.card
        told: list[object] = [self._model.sha256, card.preprocessing.model_dump_json()]
        told.append(card.bn_mixing)
        # Without views the seed is of no account.
        told += [self._count, self._seed if self._count else 0]
        if self._autoencoder is not None:
            digest = hashlib.sha256()
            for name, tensor in self._autoencoder.state_dict().items():
                digest.update(name.encode())
                digest.update(tensor.cpu().contiguous().numpy().data)
            told.append(digest.hexdigest())
        return " ".join(map(str, told))


def augmentation_of(card: ModelCard) -> Augmentation:
    """How the training patches of a model were augmented, for views alike.

    Raises
    ------
    InputError
        If the card does not say so.
    """
    if card.augmentation is None:
        raise InputError(
            f"the card of model {card.name} has no augmentation; expected one to make views by"
        )
    return card.augmentation


def _refuse_autoencoder(model: SegmentationModel, autoencoder: SemanticAutoencoder) -> None:
    card, side = model.card, autoencoder.alignment.encoder.grid[0] * FANet.stride
    found = [autoencoder.foreground + 1, side]
    expected = [len(card.classes), card.patch]
    if found == expected and card.semantics is not None:
        found.append(_latent(autoencoder, side))
        expected.append(card.semantics.latent)
    for what, has, needs in zip(("classes", "patch", "latent size"), found, expected, strict=False):
        if has != needs:
            raise InputError(
                f"the autoencoder's {what} is {has}; expected {needs}, as of model {card.name}"
            )


@torch.inference_mode()
def _latent(autoencoder: SemanticAutoencoder, side: int) -> int:
    nothing = torch.zeros(1, side, side, device=next(autoencoder.parameters()).device)
    image = nothing.expand(1, autoencoder.image_channels or 1, -1, -1)
    return int(autoencoder.vectors(nothing, image).shape[1])


def _symmetries(augmentation: Augmentation) -> list[int]:
    """Those of the eight symmetries of `_turned` that an augmentation may come to."""
    quarters = [k for k in range(4) if 90 * min(k, 4 - k) <= augmentation.turn]
    return [k + 4 * mirrored for mirrored in range(1 + augmentation.flips) for k in quarters]


def _turned(array: NDArray[np.generic], symmetry: int) -> NDArray[np.generic]:
    """An array (..., n, n) under one of the eight symmetries of the square."""
    mirrored = array[..., ::-1] if symmetry >= 4 else array
    return np.ascontiguousarray(np.rot90(mirrored, symmetry % 4, (-2, -1)))


def _dice(
    labels: NDArray[np.uint8], mask: NDArray[np.uint8], fov: NDArray[np.bool_], classes: int
) -> float:
    """Mean over the foreground classes; 1 where a class is nowhere, NaN where nothing is seen."""
    if not fov.any():
        return float("nan")
    found, truth = labels[fov], mask[fov]
    per_class = []
    for k in range(1, classes):
        size = int((found == k).sum() + (truth == k).sum())
        both = int(((found == k) & (truth == k)).sum())
        per_class.append(2 * both / size if size else 1.0)
    return float(np.mean(per_class))
