"""Sliding-window inference: from an image to class probabilities."""

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch import Tensor

from src_training.data.preprocessing.geometry import PADDING, Float, Mask, PreparedImage
from src_training.device import find_device, keep_freed_memory
from src_training.errors import InputError
from src_training.formatting import format_bytes
from src_training.inference.bn_adaptation import BatchNormAdaptation, Counting, Shift
from src_training.inference.bn_folding import FoldedNetwork
from src_training.inference.forward_progress import ForwardProgress
from src_training.inference.input_checks import input_warnings, require_flips
from src_training.inference.memory_estimate import estimate_memory
from src_training.inference.model_file import SegmentationModel
from src_training.inference.sliding_window import (
    BlendedMaps,
    Window,
    bands,
    bounding_window,
    sliding_windows,
    tile_shape,
)
from src_training.inference.window_resampling import WindowResampler
from src_training.io.volumes.grid import format_size
from src_training.networks.base import SegmentationNetwork

_LARGE = 2**24
"""Pixels from which memory is estimated before an image is segmented; this takes milliseconds."""

_OVERLAP = 0.25
"""Overlap of neighbouring tiles, as a share of their side."""

_ADAPTATION_TILES = 8
"""Maximum number of tiles that batch norms adapt to."""

_FLIPS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-2, -1))
"""Axes of each flip for test-time augmentation."""


@dataclass(frozen=True)
class Progress:
    """The part of an image that the last batch of tiles changed.

    Attributes
    ----------
    done, total
        Number of tiles.
    region
        Rows and columns of the original image that changed.
    probabilities
        (K, h, w) float32, the current probabilities of that region; the background has
        probability 1 where no tile is finished yet.
    """

    done: int
    total: int
    region: Window
    probabilities: Float


@dataclass(frozen=True)
class _Batch:
    """Maps after a batch of tiles, and the window of the prepared image that changed."""

    done: int
    total: int
    changed: Window
    blended: BlendedMaps


class Predictor:
    """Segments images of any size with one model.

    Memory is bounded by a batch of tiles and the maps of one image. Tiles
    overlap by a quarter and start at multiples of the network's stride, so
    that far from their borders they agree with a pass over the whole image.

    Parameters
    ----------
    model
        Model to segment with. Its network is moved to the device.
    device
        ``auto`` (CUDA, else MPS, else the CPU) or a device of torch.
    tile
        Side of a tile in pixels of the prepared image. None: the whole image
        up to 1536 x 1536 pixels, else the training patch, at least 512.
    batch
        Number of tiles per forward pass.
    flips
        Whether to average over the four flips of each tile, at four times the cost.

    Raises
    ------
    InputError
        If the device does not exist, a number is out of range, or the model allows no flips.
    """

    def __init__(
        self,
        model: SegmentationModel,
        device: str = "auto",
        tile: int | None = None,
        batch: int = 4,
        flips: bool = False,
    ) -> None:
        if tile is not None and tile < 1:
            raise InputError(f"tile is {tile}; expected at least 1 pixel")
        if batch < 1:
            raise InputError(f"batch is {batch}; expected at least 1 tile")
        if flips:
            require_flips(model.card)
        keep_freed_memory()
        self.model = model
        self.device = find_device(device)
        self.tile = tile
        self.batch = batch
        self.flips = flips
        self._axes = _FLIPS if flips else _FLIPS[:1]
        # Channels last is a fifth faster, on CPUs too; not all operations of MPS support it.
        mps = self.device.type == "mps"
        self._layout = torch.contiguous_format if mps else torch.channels_last
        network = model.network.to(self.device)
        self._network: SegmentationNetwork = network.to(memory_format=self._layout).eval()  # type: ignore[call-overload]
        self._idle = list[tuple[BatchNormAdaptation, FoldedNetwork]]()

    def check(self, image: NDArray[np.generic], fov: Mask | None = None) -> list[str]:
        """Return warnings about an image; see `input_warnings`."""
        return input_warnings(self.model.card, image, fov)

    def memory(self, shape: tuple[int, ...]) -> int:
        """Estimate the peak memory in bytes for segmenting an image (H, W) or (H, W, C)."""
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
        prepared: PreparedImage | None = None,
        shifts: list[Shift | None] | None = None,
    ) -> Float:
        """Predict the class probabilities of one image.

        Parameters
        ----------
        image
            (H, W) or (H, W, C), as for `Preprocessing.prepare`.
        fov
            (H, W) bool field of view; found in the image if None.
        prepared
            The image after the model's preprocessing, if it was already prepared.
        shifts
            List that the image's `Shift` is appended to; None if batch norms are not adapted.

        Returns
        -------
        ndarray
            (K, H, W) float32 in [0, 1], sums to 1 over the K classes; the background has
            probability 1 outside the field of view.

        Raises
        ------
        InputError
            If the image or the field of view is invalid, or probabilities are not finite.
        """
        prepared, inside = self._prepared(image, fov, prepared)
        for batch in self._batches(prepared, None, shifts):
            blended = batch.blended
        height, width = prepared.geometry.prepared
        maps = blended.read(_with_padding((slice(0, height), slice(0, width))))
        probabilities = np.empty((len(maps), *inside.shape), np.float32)
        # With two classes, resampling the foreground suffices: `_with_background` sets the rest.
        first = 1 if len(maps) == 2 else 0
        prepared.geometry.to_original(maps[first:], out=probabilities[first:])
        return _with_background(probabilities, inside)

    def tiles(
        self,
        image: NDArray[np.generic],
        fov: Mask | None = None,
        prepared: PreparedImage | None = None,
        passes: ForwardProgress | None = None,
        shifts: list[Shift | None] | None = None,
    ) -> Iterator[Progress]:
        """Segment one image, a batch of tiles at a time.

        Closing the iterator stops after the current batch.

        Parameters
        ----------
        image, fov, prepared
            See `predict`.
        passes
            Progress of the layers within a batch, which can also cancel the batch.
        shifts
            See `predict`; appended before the first batch is yielded.

        Yields
        ------
        Progress
            The region that changed; all regions pasted over one another
            make the maps that `predict` returns.

        Raises
        ------
        InputError
            See `predict`; errors of the input are raised before the iterator is returned.
        PredictionCancelled
            Within a batch, if `passes` was cancelled.
        """
        prepared, inside = self._prepared(image, fov, prepared)
        return self._parts(prepared, inside, passes, shifts)

    def _prepared(
        self, image: NDArray[np.generic], fov: Mask | None, prepared: PreparedImage | None
    ) -> tuple[PreparedImage, Mask]:
        """Check and prepare an image; also return the field of view on the original grid."""
        if fov is not None and fov.shape != image.shape[:2]:
            raise InputError(
                f"the field of view has shape {fov.shape}; expected that of the image, "
                f"{image.shape[:2]}"
            )
        self._require_memory(image.shape)
        if prepared is None:
            how = self.model.card.preprocessing
            fov = how.find_fov(image) if fov is None else fov
            prepared = how.prepare(image, fov)
        inside = _field_of_view(prepared) if fov is None else fov.astype(bool)
        return prepared, inside

    def _require_memory(self, shape: tuple[int, ...]) -> None:
        """Raise InputError if a large image would need more memory than is free."""
        if self.device.type != "cpu" or math.prod(shape[:2]) < _LARGE:
            return
        needed, free = self.memory(shape), psutil.virtual_memory().available
        if needed > free:
            raise InputError(
                f"{format_size(shape[:2])} take about {format_bytes(needed)} of memory to segment, "
                f"of which {format_bytes(free)} are free; expected a smaller image, or a part of it"
            )

    def _parts(
        self,
        prepared: PreparedImage,
        inside: Mask,
        passes: ForwardProgress | None,
        shifts: list[Shift | None] | None,
    ) -> Iterator[Progress]:
        resampler = WindowResampler(prepared.geometry)
        for batch in self._batches(prepared, passes, shifts):
            source, region = resampler.footprint(batch.changed)
            maps = resampler.to_original(batch.blended.read(_with_padding(source)), source, region)
            yield Progress(batch.done, batch.total, region, _with_background(maps, inside[region]))

    def _batches(
        self,
        prepared: PreparedImage,
        passes: ForwardProgress | None,
        shifts: list[Shift | None] | None,
    ) -> Iterator["_Batch"]:
        padded = torch.from_numpy(prepared.padded)
        pixels = self._network.pad(padded[None])[0]
        size = (pixels.shape[-2], pixels.shape[-1])
        tile = self._tile((padded.shape[-2], padded.shape[-1]), self.tile)
        windows = self._windows(size, tile)
        blended = BlendedMaps(len(self.model.card.classes), size, tile)
        adaptation = self._adaptation_windows(size)
        batches = range(0, len(windows), self.batch)
        counting: Counting = nullcontext
        if passes is not None:
            passes.start(len(adaptation) + len(batches) * len(self._axes))
            counting = passes.counting
        with self._adapted(pixels, adaptation, counting, shifts) as network:
            for start in batches:
                chosen = windows[start : start + self.batch]
                stack = torch.stack([pixels[:, rows, columns] for rows, columns in chosen])
                blended.add(self._probabilities(network, stack, counting), chosen)
                changed = _without_padding(bounding_window(chosen), prepared.geometry.prepared)
                yield _Batch(start + len(chosen), len(windows), changed, blended)

    def _tile(self, size: tuple[int, int], side: int | None) -> tuple[int, int]:
        return tile_shape(size, side, self.model.card.patch, self._network.stride)

    def _windows(self, size: tuple[int, int], tile: tuple[int, int]) -> list[Window]:
        return sliding_windows(size, tile, _OVERLAP, self._network.stride)

    def _adaptation_windows(self, size: tuple[int, int]) -> list[Window]:
        """The tiles that batch norms adapt to, which do not depend on `tile`.

        Bands of a photograph, whose statistics are much the same everywhere; not so a slice's.
        """
        card = self.model.card
        if card.bn_mixing == 0:
            return []
        windows = self._windows(size, self._tile(size, None))
        if len(windows) == 1 and card.preprocessing.kind == "fundus":
            return bands(size, self._network.stride)
        count = min(_ADAPTATION_TILES, len(windows))
        chosen = np.linspace(0, len(windows) - 1, count).round().astype(int)
        return [windows[index] for index in chosen]

    @contextmanager
    def _adapted(
        self,
        pixels: Tensor,
        windows: list[Window],
        counting: Counting,
        shifts: list[Shift | None] | None,
    ) -> Iterator[SegmentationNetwork]:
        """Provide a network for an image (C, H, W), with batch norms adapted and folded."""
        # Several iterators of `tiles` may be open at once, and each needs its own statistics.
        if not self._idle:
            adaptation = BatchNormAdaptation(self._network)
            self._idle.append((adaptation, FoldedNetwork(adaptation.network)))
        adaptation, folding = self._idle.pop()
        try:
            tiles = (self._to_device(pixels[None, :, *window]) for window in windows)
            with self._precision():
                adaptation.adapt(tiles, self.model.card.bn_mixing, counting)
            if shifts is not None:
                shifts.append(adaptation.shift if windows else None)
            yield folding.folded()
        finally:
            self._idle.append((adaptation, folding))

    def _to_device(self, stack: Tensor) -> Tensor:
        return stack.to(self.device).contiguous(memory_format=self._layout)

    @torch.inference_mode()
    def _probabilities(
        self, network: SegmentationNetwork, stack: Tensor, counting: Counting
    ) -> Tensor:
        """Class probabilities (B, K, h, w) float32 on the CPU of tiles (B, C, h, w)."""
        stack = self._to_device(stack)
        total = torch.zeros(())
        for axes in self._axes:
            with self._precision(), counting(network):
                logits = network(stack.flip(axes))
            total = total + logits.flip(axes).float().softmax(1).cpu()
        # NaN compares false with any threshold, which would give an empty mask without an error.
        if not torch.isfinite(total.sum()):
            raise InputError(
                f"model {self.model.card.name} returns probabilities that are not finite; expected "
                "weights that do not overflow, and an image like those it was trained on"
            )
        return total / len(self._axes)

    def _precision(self) -> torch.autocast | nullcontext[None]:
        if self.device.type != "cuda":
            return nullcontext()
        half = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
        return torch.autocast("cuda", dtype=half)


def labels_from(probabilities: Float, threshold: float) -> NDArray[np.uint8]:
    """Convert probabilities (K, H, W) to class indices (H, W) uint8.

    With two classes a pixel is 1 if the probability of the second is at
    least `threshold`; with more classes it is the most probable class, and the threshold is
    not used.

    >>> labels_from(np.array([[[0.7, 0.4]], [[0.3, 0.6]]]), 0.5).tolist()
    [[0, 1]]
    """
    two = probabilities.shape[0] == 2
    chosen = probabilities[1] >= threshold if two else probabilities.argmax(0)
    labels: NDArray[np.uint8] = chosen.view(np.uint8) if two else chosen.astype(np.uint8)
    return labels


def _with_background(maps: Float, inside: Mask) -> Float:
    """Set the background of maps (K, H, W) to 1 outside the field of view, in place.

    With two classes, also set the background to 1 minus the foreground elsewhere.
    """
    if len(maps) == 2:
        maps[1] *= inside
        np.subtract(1, maps[1], out=maps[0])
    else:
        maps[:, ~inside] = 0
        maps[0, ~inside] = 1
    return maps


def _field_of_view(prepared: PreparedImage) -> Mask:
    """The field of view (H, W) on the original grid."""
    geometry = prepared.geometry
    if prepared.fov.all() and geometry.box == (0, 0, *geometry.original):
        return np.ones(geometry.original, np.bool_)
    cover = geometry.to_original(prepared.fov[None].astype(np.float32))[0]
    return np.asarray(cover > 0.5, np.bool_)


def _without_padding(window: Window, size: tuple[int, int]) -> Window:
    """Convert a window of the padded image to the image, clipped; at least one pixel."""
    rows, columns = (
        slice(min(max(0, part.start - PADDING), side - 1), max(1, min(side, part.stop - PADDING)))
        for part, side in zip(window, size, strict=True)
    )
    return rows, columns


def _with_padding(window: Window) -> Window:
    """Convert a window of the image to the padded image."""
    rows, columns = (slice(part.start + PADDING, part.stop + PADDING) for part in window)
    return rows, columns
