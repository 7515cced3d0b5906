"""Convolutions with batch normalisation, upsampling, and weight initialisation."""

from typing import Literal

from torch import nn


def conv_bn(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1, dilation: int = 1
) -> tuple[nn.Module, ...]:
    """A convolution without bias and a batch normalisation.

    Parameters
    ----------
    in_channels, out_channels
        Input and output channels.
    kernel
        Side of the kernel in pixels, odd. The padding keeps the size if the stride is 1.
    stride, dilation
        Stride and dilation in pixels.
    """
    padding = kernel // 2 * dilation
    return (
        nn.Conv2d(in_channels, out_channels, kernel, stride, padding, dilation, bias=False),
        nn.BatchNorm2d(out_channels),
    )


def conv_bn_relu(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1, dilation: int = 1
) -> tuple[nn.Module, ...]:
    """`conv_bn` followed by ReLU."""
    layers = conv_bn(in_channels, out_channels, kernel, stride, dilation)
    return *layers, nn.ReLU(inplace=True)


def upsample_by(factor: int) -> nn.Sequential:
    """Bilinear upsampling by a power of two, in steps of a factor of 2.

    *Reconstruction*: EMKD's networks upsample in one step. The intermediate steps
    provide features at 1/4 and 1/2, which other distillations read.
    """
    doublings = factor.bit_length() - 1
    return nn.Sequential(
        *(nn.Upsample(scale_factor=2.0, mode="bilinear") for _ in range(doublings))
    )


def init_kaiming(module: nn.Module) -> None:
    """Initialise a convolution as in He et al. 2015 (arXiv 1502.01852, eq. 10), its bias with 0.

    For `nn.Module.apply`; other layers keep PyTorch's initialisation.
    """
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        # Weights of a transposed convolution are (in, out, k, k), so that "fan_out" is its fan-in.
        transposed = isinstance(module, nn.ConvTranspose2d)
        fan: Literal["fan_in", "fan_out"] = "fan_out" if transposed else "fan_in"
        nn.init.kaiming_normal_(module.weight, mode=fan, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
