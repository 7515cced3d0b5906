"""From an image to probabilities: tiles, blended, one batch after another."""

import math
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from src_training.data.preprocessing.geometry import PADDING, Float, Mask, Prepared
from src_training.device import find_device
from src_training.errors import InputError
from src_training.inference.bn_adaptation import adapt_batch_norm
from src_training.inference.input_checks import input_warnings
from src_training.inference.memory_estimate import estimate_memory
from src_training.inference.model_file import SegmentationModel
from src_training.inference.window_resampling import Regrid
from src_training.networks.base import SegmentationNetwork

_WHOLE = 1024 * 1024
_SAMPLE = 8
_FLIPS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-2, -1))

Window = tuple[slice, slice]


@dataclass(frozen=True)
class Progress:
    """What changed with the last batch of tiles.

    Attributes
    ----------
    done, total
        Tiles.
    region
        Rows and columns of the original image that changed.
    probabilities
        (K, h, w) float32, what is known about that region so far; where no
        tile has been, the background has probability 1.
    """

    done: int
    total: int
    region: Window
    probabilities: Float


class Predictor:
    """Segments images of any size with one model.

    Memory is bounded by a batch of tiles and the maps of one image. Tiles
    start at multiples of the network's stride, so that away from their
    borders they agree with a pass over the whole image.

    Parameters
    ----------
    model
        What segments. Its network is moved to the device.
    device
        ``auto`` (CUDA, else MPS, else the CPU) or a device of torch.
    tile
        Side of a tile, pixels of the prepared grid. None: the whole image
        up to 1024 x 1024 pixels, else the training patch, at least 512.
    overlap
        Part of a tile that the next one covers again, in [0, 1).
    batch
        Tiles per pass.
    flips
        Average over the four flips of each tile; four times the work.

    Raises
    ------
    InputError
        If the device is not there, or a number is out of its range.
    """

    def __init__(
        self,
        model: SegmentationModel,
        device: str = "auto",
        tile: int | None = None,
        overlap: float = 0.25,
        batch: int = 4,
        flips: bool = False,
    ) -> None:
        if tile is not None and tile < 1:
            raise InputError(f"tile is {tile}; expected at least 1 pixel")
        if not 0 <= overlap < 1:
            raise InputError(f"overlap is {overlap}; expected 0 or more, and less than 1")
        if batch < 1:
            raise InputError(f"batch is {batch}; expected at least 1 tile")
        self.model = model
        self.device = find_device(device)
        self.tile = tile
        self.overlap = overlap
        self.batch = batch
        self.flips = flips
        # A fifth faster on CPUs too; MPS has gaps in it.
        mps = self.device.type == "mps"
        self._layout = torch.contiguous_format if mps else torch.channels_last
        network = model.network.to(self.device)
        self._network: SegmentationNetwork = network.to(memory_format=self._layout).eval()  # type: ignore[call-overload]

    def check(self, image: NDArray[np.generic]) -> list[str]:
        """What speaks against this image, in plain words; empty if nothing does."""
        return input_warnings(self.model.card, image)

    def memory(self, shape: tuple[int, ...]) -> int:
        """Estimated bytes that segmenting an image (H, W) or (H, W, C) takes at its peak."""
        card = self.model.card
        size = card.preprocessing.grid_of((shape[0], shape[1]))
        size = (size[0] + 2 * PADDING, size[1] + 2 * PADDING)
        tile = self._tile(size, self.tile)
        count = min(self.batch, len(self._windows(size, tile)))
        return estimate_memory(self.model, shape, size, tile, count)

    def predict(
        self,
        image: NDArray[np.generic],
        fov: Mask | None = None,
        prepared: Prepared | None = None,
    ) -> Float:
        """Probabilities of one image.

        Parameters
        ----------
        image
            (H, W) or (H, W, C), as `Preprocessing.prepare` takes it.
        fov
            (H, W) bool field of view; found from the image when missing.
        prepared
            What the model's preprocessing makes of both, where it is there already.

        Returns
        -------
        ndarray
            (K, H, W) float32, sums to 1 over the K classes; outside the field
            of view the background has 1.

        Raises
        ------
        InputError
            If the image or the field of view cannot be used.
        """
        probabilities = _background(len(self.model.card.classes), image.shape[:2])
        for progress in self.tiles(image, fov, prepared):
            rows, columns = progress.region
            probabilities[:, rows, columns] = progress.probabilities
        return probabilities

    def tiles(
        self,
        image: NDArray[np.generic],
        fov: Mask | None = None,
        prepared: Prepared | None = None,
    ) -> Iterator[Progress]:
        """Segment one image, a batch of tiles at a time; parameters as `predict`.

        Closing the iterator stops at the next batch.

        Yields
        ------
        Progress
            The region that changed; pasted one over the other, the regions
            make what `predict` returns.

        Raises
        ------
        InputError
            As `predict`, at the call and not at the first batch.
        """
        if fov is not None and fov.shape != image.shape[:2]:
            raise InputError(
                f"the field of view has shape {fov.shape}; expected that of the image, "
                f"{image.shape[:2]}"
            )
        if prepared is None:
            prepared = self.model.card.preprocessing.prepare(image, fov)
        seen = _seen(prepared) if fov is None else fov.astype(bool)
        return self._run(prepared, seen)

    def _run(self, prepared: Prepared, seen: Mask) -> Iterator[Progress]:
        padded = torch.from_numpy(prepared.padded)
        pixels = self._network.pad(padded[None])[0]
        size = (pixels.shape[-2], pixels.shape[-1])
        windows = self._windows(size, self._tile((padded.shape[-2], padded.shape[-1]), self.tile))
        blend = _Blend(len(self.model.card.classes), size, windows[0])
        regrid = Regrid(prepared.geometry)
        network = self._adapted(pixels, size)
        for start in range(0, len(windows), self.batch):
            chosen = windows[start : start + self.batch]
            stack = torch.stack([pixels[:, rows, columns] for rows, columns in chosen])
            blend.add(self._probabilities(network, stack), chosen)
            inside = _unframed(_union(chosen), prepared.geometry.prepared)
            source, region = regrid.affected(inside)
            maps = regrid.to_original(blend.read(_in_frame(source)), source, region)
            outside = ~seen[region]
            maps[0, outside], maps[1:, outside] = 1, 0
            yield Progress(start + len(chosen), len(windows), region, maps)

    def _tile(self, size: tuple[int, int], side: int | None) -> tuple[int, int]:
        """Height and width of a tile of that side, see `tile`; multiples of the stride."""
        stride = self._network.stride
        whole = (_up(size[0], stride), _up(size[1], stride))
        if side is None and size[0] * size[1] <= _WHOLE:
            return whole
        side = _up(side or max(self.model.card.patch, 512), stride)
        return min(side, whole[0]), min(side, whole[1])

    def _windows(self, size: tuple[int, int], tile: tuple[int, int]) -> list[Window]:
        """Where the tiles lie on the prepared grid, all of one size, covering it."""
        from monai.data.utils import dense_patch_slices

        stride = self._network.stride
        whole = (_up(size[0], stride), _up(size[1], stride))
        step = [max(stride, int(side * (1 - self.overlap)) // stride * stride) for side in tile]
        return [(w[0], w[1]) for w in dense_patch_slices(whole, tile, step)]

    def _adapted(self, pixels: Tensor, size: tuple[int, int]) -> SegmentationNetwork:
        """The network for an image (C, H, W), which does not depend on how it is tiled."""
        share = self.model.card.bn_mixing
        if share == 0:
            return self._network
        windows = self._windows(size, self._tile(size, None))
        spread = np.linspace(0, len(windows) - 1, min(_SAMPLE, len(windows))).round().astype(int)
        tiles = (self._placed(pixels[None, :, *windows[index]]) for index in spread)
        with self._precision():
            return adapt_batch_norm(tiles, self._network, share)

    def _placed(self, stack: Tensor) -> Tensor:
        return stack.to(self.device).contiguous(memory_format=self._layout)

    @torch.inference_mode()
    def _probabilities(self, network: SegmentationNetwork, stack: Tensor) -> Tensor:
        """Class probabilities (B, K, h, w) float32 on the CPU of tiles (B, C, h, w)."""
        stack = self._placed(stack)
        total = torch.zeros(())
        flips = _FLIPS if self.flips else _FLIPS[:1]
        for axes in flips:
            with self._precision():
                logits = network(stack.flip(axes))
            total = total + logits.flip(axes).float().softmax(1).cpu()
        return total / len(flips)

    def _precision(self) -> torch.autocast | nullcontext[None]:
        if self.device.type != "cuda":
            return nullcontext()
        half = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
        return torch.autocast("cuda", dtype=half)


def labels_from(probabilities: Float, threshold: float) -> NDArray[np.uint8]:
    """Class indices (H, W) uint8 of probabilities (K, H, W).

    Two classes: 1 where the second's probability is at least `threshold`.
    More: the most probable; `threshold` plays no part.
    """
    two = probabilities.shape[0] == 2
    chosen = probabilities[1] >= threshold if two else probabilities.argmax(0)
    return np.asarray(chosen, np.uint8)


class _Blend:
    """Tiles summed with Gaussian weights, on the CPU."""

    def __init__(self, classes: int, size: tuple[int, int], window: Window) -> None:
        from monai.data.utils import compute_importance_map

        tile = tuple(part.stop - part.start for part in window)
        self._importance = compute_importance_map(tile, mode="gaussian")
        self._sum = torch.zeros(classes, *size)
        self._weight = torch.zeros(size)

    def add(self, tiles: Tensor, windows: list[Window]) -> None:
        for tile, (rows, columns) in zip(tiles, windows, strict=True):
            self._sum[:, rows, columns] += tile * self._importance
            self._weight[rows, columns] += self._importance

    def read(self, window: Window) -> Float:
        rows, columns = window
        weight = self._weight[rows, columns]
        maps = self._sum[:, rows, columns] / weight.clamp(min=torch.finfo(torch.float32).tiny)
        maps[0][weight == 0] = 1
        return maps.numpy()


def _seen(prepared: Prepared) -> Mask:
    """The field of view (H, W) on the original grid."""
    cover = prepared.geometry.to_original(prepared.fov[None].astype(np.float32))[0]
    return np.asarray(cover > 0.5, np.bool_)


def _background(classes: int, size: tuple[int, ...]) -> Float:
    maps = np.zeros((classes, *size), np.float32)
    maps[0] = 1
    return maps


def _union(windows: list[Window]) -> Window:
    """The smallest window that holds all of them."""
    first, second = zip(*windows, strict=True)
    return (
        slice(min(r.start for r in first), max(r.stop for r in first)),
        slice(min(c.start for c in second), max(c.stop for c in second)),
    )


def _unframed(window: Window, size: tuple[int, int]) -> Window:
    """The part of a window of the framed image that lies in the image, at least a pixel."""
    rows, columns = (
        slice(min(max(0, part.start - PADDING), side - 1), max(1, min(side, part.stop - PADDING)))
        for part, side in zip(window, size, strict=True)
    )
    return rows, columns


def _in_frame(window: Window) -> Window:
    """A window of the image as one of the framed image."""
    rows, columns = (slice(part.start + PADDING, part.stop + PADDING) for part in window)
    return rows, columns


def _up(value: int, multiple: int) -> int:
    return math.ceil(value / multiple) * multiple
