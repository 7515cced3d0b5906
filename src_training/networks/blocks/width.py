"""How wide a network is: the published width, or less where a CPU trains it."""

from src_training.errors import InputError


def refuse_width(network: str, width: object, multiple: int = 1) -> None:
    """Raise InputError unless a width is a positive integer, a multiple of `multiple`."""
    if type(width) is int and width > 0 and width % multiple == 0:
        return
    expected = "integer" if multiple == 1 else f"multiple of {multiple}"
    raise InputError(f"{network}: option width is {width!r}; expected a positive {expected}.")


def refuse_multiplier(network: str, width: object) -> None:
    """Raise InputError unless a multiplier of channels is a number from 0.1 to 2."""
    if isinstance(width, bool) or not isinstance(width, int | float) or not 0.1 <= width <= 2:
        raise InputError(f"{network}: width is {width!r}; expected a number from 0.1 to 2")


def scaled(channels: int, width: float) -> int:
    """Channels at a multiplier: a multiple of 8, at least 8 and 9/10 of the exact number."""
    exact = channels * width
    rounded = max(8, int(exact + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * exact else rounded + 8
