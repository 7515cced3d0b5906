"""Folding batch norms into the preceding convolutions, for faster prediction."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from src_training.networks.base import SegmentationNetwork

_TOLERANCE = 1e-3
"""Largest median difference of a folded network, relative to the spread of its logits."""

Convolution = nn.Conv2d | nn.ConvTranspose2d
_Layers = tuple[Convolution, Convolution, nn.BatchNorm2d]


class FoldedNetwork:
    """A network without the batch norms that follow a convolution, for prediction.

    One small forward pass shows which norm follows which convolution, and the
    output is compared with that of the original network, so that this works for any
    network. Layers that are not folded share their tensors with the original.

    Parameters
    ----------
    network
        Network in eval mode; not changed.
    """

    def __init__(self, network: SegmentationNetwork) -> None:
        self._network = network
        generator = torch.Generator().manual_seed(0)
        probe = torch.rand(
            (1, network.in_channels, *[2 * network.stride] * 2), generator=generator
        ).to(next(network.parameters()))
        self._pairs = _pairs(network, probe)
        self._folded = self._without_norms()
        self._layers = [self._layers_of(*pair) for pair in self._pairs]
        with torch.no_grad():
            expected, actual = (net.forward(probe) for net in (network, self.folded()))
        # Compare the median: in networks with max pooling, rounding can change single pixels a lot.
        if (actual - expected).abs().median() > _TOLERANCE * expected.std():
            self._layers, self._folded = [], network

    @torch.no_grad()
    def folded(self) -> SegmentationNetwork:
        """Return the folded network, updated to the current weights of the original."""
        for folded, convolution, norm in self._layers:
            weight, bias = _fuse(convolution, norm)
            folded.weight.copy_(weight)
            folded.get_parameter("bias").copy_(bias)
        return self._folded

    def _layers_of(self, convolution: str, norm: str) -> _Layers:
        """A folded convolution, and the original convolution and norm that it replaces."""
        folded, original = (net.get_submodule(convolution) for net in (self._folded, self._network))
        layer = self._network.get_submodule(norm)
        assert isinstance(folded, Convolution) and isinstance(original, Convolution)
        assert isinstance(layer, nn.BatchNorm2d)
        return folded, original, layer

    def _without_norms(self) -> SegmentationNetwork:
        tensors = (*self._network.parameters(), *self._network.buffers())
        folded = copy.deepcopy(self._network, {id(tensor): tensor for tensor in tensors})
        for convolution, norm in self._pairs:
            layer = folded.get_submodule(convolution)
            weight = layer.get_parameter("weight").detach()
            channels = self._network.get_submodule(norm).get_buffer("running_mean")
            layer.weight = nn.Parameter(torch.empty_like(weight), requires_grad=False)
            layer.bias = nn.Parameter(torch.empty_like(channels), requires_grad=False)
            parent, _, name = norm.rpartition(".")
            setattr(folded.get_submodule(parent), name, nn.Identity())
        return folded


def _fuse(convolution: Convolution, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
    transposed = isinstance(convolution, nn.ConvTranspose2d)
    return fuse_conv_bn_weights(
        convolution.weight,
        convolution.bias,
        mean,
        variance,
        norm.eps,
        norm.weight,
        norm.bias,
        transposed,
    )


@torch.no_grad()
def _pairs(network: SegmentationNetwork, probe: Tensor) -> list[tuple[str, str]]:
    """Names of convolutions and of the batch norms that follow them, if each runs only once."""
    outputs = dict[tuple[int, int], tuple[str, Tensor]]()
    runs, pairs = list[str](), list[tuple[str, str]]()

    def observe(name: str, module: nn.Module) -> Any:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            runs.append(name)
            if isinstance(module, nn.BatchNorm2d):
                if _version(inputs[0]) in outputs:
                    pairs.append((outputs[_version(inputs[0])][0], name))
            else:
                # Keeping a reference to the tensor prevents a later one from reusing its id.
                outputs[_version(output)] = name, output

        return module.register_forward_hook(hook)

    hooks = [observe(name, each) for name, each in network.named_modules() if _foldable(each)]
    try:
        network.forward(probe)
    finally:
        for hook in hooks:
            hook.remove()
    return [pair for pair in pairs if all(runs.count(name) == 1 for name in pair)]


def _version(tensor: Tensor) -> tuple[int, int]:
    """Identify a tensor and its version, which in-place operations such as ReLU increase."""
    return id(tensor), tensor._version


def _foldable(module: nn.Module) -> bool:
    if isinstance(module, nn.BatchNorm2d):
        return module.running_mean is not None
    return isinstance(module, nn.Conv2d) or (
        isinstance(module, nn.ConvTranspose2d) and module.groups == 1
    )
