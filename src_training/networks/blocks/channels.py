"""Numbers of channels: checks of the option ``width`` of a network, and rounding."""

from src_training.errors import InputError

WIDEST = 512
"""Upper limit of the option ``width``; eight times that of the published networks."""


def check_width(network: str, width: object, multiple: int = 1) -> None:
    """Raise InputError unless a width is a multiple of `multiple` from 1 to `WIDEST`."""
    if type(width) is int and 0 < width <= WIDEST and width % multiple == 0:
        return
    expected = "integer" if multiple == 1 else f"multiple of {multiple}"
    raise InputError(
        f"{network}: option width is {width!r:.40}; expected a positive {expected} up to {WIDEST}."
    )


def check_multiplier(network: str, width: object) -> None:
    """Raise InputError unless a multiplier of channels is a number from 0.1 to 2."""
    if isinstance(width, bool) or not isinstance(width, int | float) or not 0.1 <= width <= 2:
        raise InputError(f"{network}: width is {width!r}; expected a number from 0.1 to 2")


def scaled_channels(channels: int, width: float) -> int:
    """Scale a number of channels by a multiplier, with the rounding of MobileNets.

    The result is a multiple of 8, at least 8, and at least 0.9 times the exact number.

    Examples
    --------
    >>> scaled_channels(32, 1.0), scaled_channels(24, 0.35), scaled_channels(320, 0.35)
    (32, 8, 112)
    """
    exact = channels * width
    rounded = max(8, int(exact + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * exact else rounded + 8


def stem_channels(in_channels: int) -> int:
    """Channels after the first `DownsamplerBlock` of ENet and ERFNet.

    16 for greyscale and RGB images, as published. The block concatenates the
    pooled input and learned filters, of which there are always at least 13.

    Examples
    --------
    >>> stem_channels(1), stem_channels(3), stem_channels(5)
    (16, 16, 18)
    """
    return max(16, 13 + in_channels)
