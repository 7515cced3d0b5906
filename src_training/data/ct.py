"""CT images, whose values are Hounsfield units (HU)."""

from typing import Any

from numpy.typing import NDArray

WINDOWS = {"liver": (-60.0, 140.0), "kidney": (-200.0, 300.0), "soft_tissue": (-160.0, 240.0)}
"""Windows of CT by name: lowest and highest HU."""

_AIR = -500
"""HU below which there is hardly anything except air."""


def looks_like_hounsfield(image: NDArray[Any]) -> bool:
    """Return whether an image seems to be in HU, because it has values as low as air.

    Examples
    --------
    >>> import numpy as np
    >>> looks_like_hounsfield(np.array([-1000, 40])), looks_like_hounsfield(np.array([0, 255]))
    (True, False)
    """
    return bool(image.min() <= _AIR)
