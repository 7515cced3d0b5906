"""Estimating the memory for segmenting one image."""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from src_training.inference.model_file import SegmentationModel
from src_training.networks.base import SegmentationNetwork

_FIELD_OF_VIEW_BYTES = 24
"""Bytes per original pixel while the field of view is found (measured)."""

_CLAHE_BYTES = 60
"""Bytes per prepared pixel at the peak of CLAHE (measured)."""

_WORKSPACE = 2.0
"""Factor on the activations that accounts for the workspace of convolutions (measured)."""


def estimate_memory(
    model: SegmentationModel,
    shape: tuple[int, ...],
    prepared: tuple[int, int],
    tile: tuple[int, int],
    tiles: int,
) -> int:
    """Estimate the peak memory for one image in bytes, without the image and the weights.

    Parameters
    ----------
    model
        Model to segment with.
    shape
        Shape of the original image, (H, W) or (H, W, C).
    prepared
        Height and width of the prepared image.
    tile, tiles
        Height and width of a tile, and the number of tiles per forward pass.
    """
    classes, original = len(model.card.classes), shape[0] * shape[1]
    channels = shape[2] if len(shape) > 2 else 1
    grid = prepared[0] * prepared[1]
    preparing = original * (_FIELD_OF_VIEW_BYTES + 4 * channels)
    if model.card.preprocessing.kind == "fundus":
        preparing += grid * _CLAHE_BYTES
    maps = 4 * (grid * (2 * classes + model.card.in_channels + 1) + original * (2 * classes + 1))
    passing = tiles * tile[0] * tile[1] * bytes_per_pixel(model.network) * _WORKSPACE
    return max(preparing, maps + int(passing))


def bytes_per_pixel(network: SegmentationNetwork) -> int:
    """Peak bytes of live activations per input pixel, float32, without gradients.

    Measured on one small image, and cached for each network: activations of a convolutional
    network grow in proportion to the number of pixels.
    """
    if network not in _cache:
        _cache[network] = _count_bytes(network)
    return _cache[network]


_cache: "weakref.WeakKeyDictionary[SegmentationNetwork, int]" = weakref.WeakKeyDictionary()


def _count_bytes(network: SegmentationNetwork) -> int:
    parameter = next(network.parameters())
    side = 2 * network.stride
    image = torch.zeros(1, network.in_channels, side, side, device=parameter.device)
    with torch.no_grad(), _LiveBytes() as live:
        network(image)
    return int(live.peak // (side * side))


class _LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]  # untyped in torch
    """Counts the bytes of all tensors that are alive after every operation."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # untyped in torch
        self.peak = 0
        self._now = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._follow(tensor.untyped_storage())
        return result

    def _follow(self, storage: torch.UntypedStorage) -> None:
        address = storage.data_ptr()
        if address in self._known or not address:
            return
        self._known.add(address)
        self._now += storage.nbytes()
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._forget, address, storage.nbytes())

    def _forget(self, address: int, size: int) -> None:
        self._known.discard(address)
        self._now -= size
