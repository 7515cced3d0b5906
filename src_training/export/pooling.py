"""Means over parts of an image, in operators that know its size at run time only.

torch's exporter writes the size of its sample into `nn.AdaptiveAvgPool2d`.
"""

import copy

import torch
from torch import Tensor, nn


class ExportableAvgPool(nn.Module):
    """What `nn.AdaptiveAvgPool2d` gives, as products with two matrices.

    Parameters
    ----------
    grid
        Parts along either side.
    """

    def __init__(self, grid: int) -> None:
        super().__init__()
        self.grid = grid

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, grid, grid)."""
        down, across = (_shares(self.grid, length) for length in x.shape[-2:])
        return down @ x @ across.mT


def with_sizeable_means(network: nn.Module) -> nn.Module:
    """A copy of a network, with `ExportableAvgPool` wherever it takes means over parts."""
    copied = copy.deepcopy(network)
    for module in list(copied.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.AdaptiveAvgPool2d) and isinstance(child.output_size, int):
                setattr(module, name, ExportableAvgPool(child.output_size))
    return copied


def _shares(parts: int, length: int) -> Tensor:
    """How much each place counts in the mean of each part, (parts, length); parts may overlap."""
    part, place = torch.arange(parts)[:, None], torch.arange(length)
    first, end = part * length // parts, ((part + 1) * length + parts - 1) // parts
    inside = ((place >= first) & (place < end)).float()
    return inside / inside.sum(1, keepdim=True)
