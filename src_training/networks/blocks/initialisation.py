"""Weights to start from: students train from scratch, and for few steps."""

from typing import Literal

from torch import nn


def kaiming(module: nn.Module) -> None:
    """Draw a convolution's weights as He et al. 2015 (arXiv 1502.01852, eq. 10); zero its bias.

    For `nn.Module.apply`; leaves every other layer as torch made it.
    """
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        # A transposed convolution stores (in, out, k, k): torch's "fan_out" is its inputs.
        transposed = isinstance(module, nn.ConvTranspose2d)
        fan: Literal["fan_in", "fan_out"] = "fan_out" if transposed else "fan_in"
        nn.init.kaiming_normal_(module.weight, mode=fan, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
