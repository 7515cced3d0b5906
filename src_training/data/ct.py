"""What is known of CT, whose values are Hounsfield units (HU)."""

from typing import Any

from numpy.typing import NDArray

WINDOWS = {"liver": (-60.0, 140.0), "kidney": (-200.0, 300.0), "soft_tissue": (-160.0, 240.0)}
"""Windows of CT by name: lowest and highest HU."""

_AIR = -500
"""HU below which there is hardly anything but air."""


def in_hounsfield(image: NDArray[Any]) -> bool:
    """Whether an image is in HU: every CT has air, at -1000, and nothing else is that low."""
    return bool(image.min() <= _AIR)
