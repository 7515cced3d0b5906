"""The interface of all networks: encode, decode and named taps."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Skips(NamedTuple):
    """Inputs of the decoder in addition to the bottleneck.

    Attributes
    ----------
    features
        Feature maps, or indices of max-pooling, in the order in which the
        encoder computes them.
    size
        Height and width of the input before padding; `decode` crops to it.
    """

    features: tuple[Tensor, ...]
    size: tuple[int, int]


class SegmentationNetwork(nn.Module, ABC):
    """An encoder, a bottleneck and a decoder.

    ``forward(x) == decode(*encode(x))`` holds exactly. Cross distillation, which
    replaces the bottleneck and keeps the skips, relies on it.

    Parameters
    ----------
    in_channels
        Channels of the image.
    classes
        Number of classes, the background included.

    Attributes
    ----------
    stride
        Input pixels per bottleneck pixel. Inputs of any size are padded at
        the bottom and right to a multiple of it.
    bottleneck_channels
        Channels of the bottleneck.
    head
        The last layer with weights, a convolution. Its outputs are the logits,
        possibly before upsampling.
    taps
        Features that distillations may read: name -> path of the submodule
        whose output is the feature. Every network has ``encoder_half``,
        ``encoder_quarter``, ``encoder_eighth``, ``decoder_half`` and
        ``decoder_quarter``, at these fractions of the image's size. A tap whose
        name begins with ``auxiliary`` has logits, which are trained with the
        supervised losses like those of the network.
    pooled_taps
        Taps whose features are the module's output after average pooling:
        name -> side of the pooling window.
    """

    stride: ClassVar[int]
    taps: ClassVar[dict[str, str]]
    pooled_taps: Mapping[str, int] = MappingProxyType({})
    bottleneck_channels: int
    head: nn.Conv2d | nn.ConvTranspose2d

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.classes = classes

    @abstractmethod
    def encode(self, x: Tensor) -> tuple[Skips, Tensor]:
        """Encode an image.

        Parameters
        ----------
        x
            Image (B, in_channels, H, W), float, any H and W >= 1.

        Returns
        -------
        Skips
            Inputs of `decode` in addition to the bottleneck.
        Tensor
            Bottleneck (B, bottleneck_channels, ceil(H/stride), ceil(W/stride)).
        """

    @abstractmethod
    def decode(self, skips: Skips, bottleneck: Tensor) -> Tensor:
        """Decode a bottleneck to logits (B, classes, H, W) of the input's size."""

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, classes, H, W) of an image (B, in_channels, H, W)."""
        return self.decode(*self.encode(x))

    @property
    def auxiliary_taps(self) -> tuple[str, ...]:
        """Names of the taps with auxiliary logits (B, classes, H', W') before `crop`."""
        return tuple(tap for tap in self.taps if tap.startswith("auxiliary"))

    def pad(self, x: Tensor) -> Tensor:
        """Pad the bottom and right to a multiple of the stride, repeating the edge."""
        down, right = (-x.shape[-2] % self.stride, -x.shape[-1] % self.stride)
        return F.pad(x, (0, right, 0, down), mode="replicate") if down or right else x

    def crop(self, logits: Tensor, skips: Skips) -> Tensor:
        """Undo `pad`: crop logits (B, classes, H', W') to the size of the input."""
        return logits[..., : skips.size[0], : skips.size[1]]

    @contextmanager
    def collect_taps(self, *names: str) -> Iterator[dict[str, Tensor]]:
        """Collect the features of taps from every forward pass inside the block.

        Yields
        ------
        dict of str to Tensor
            Features by tap. Each forward pass replaces those of the one before.

        Raises
        ------
        KeyError
            If a name is not in `taps`.
        """
        features: dict[str, Tensor] = {}

        def make_hook(name: str) -> object:
            side = self.pooled_taps.get(name, 1)

            def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
                pooled = F.avg_pool2d(output, side, ceil_mode=True) if side > 1 else output
                features[name] = pooled

            return hook

        handles = [
            self.get_submodule(self.taps[name]).register_forward_hook(make_hook(name))  # type: ignore[arg-type]
            for name in names
        ]
        try:
            yield features
        finally:
            for handle in handles:
                handle.remove()

    @torch.no_grad()
    def tap_channels(self, *names: str) -> dict[str, int]:
        """Number of channels of the features of taps, by name.

        Raises
        ------
        KeyError
            If a name is not in `taps`.
        """
        training, parameter = self.training, next(self.parameters())
        self.eval()
        with self.collect_taps(*names) as features:
            self(parameter.new_zeros(1, self.in_channels, self.stride, self.stride))
        self.train(training)
        return {name: features[name].shape[1] for name in names}
