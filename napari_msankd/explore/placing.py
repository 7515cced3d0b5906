"""Where a picture that was made of an image lies in the viewer: exactly over it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.transforms import Affine

if TYPE_CHECKING:
    from napari.layers import Layer


def over(
    layer: "Layer",
    scale: Sequence[float] = (1, 1),
    translate: Sequence[float] = (0, 0),
    leading: int = 0,
) -> dict[str, Any]:
    """Keywords of a new layer whose pixels lie over those of another.

    Parameters
    ----------
    layer
        What it lies over; of a stack, the last two axes.
    scale, translate
        From pixels (y, x) of the new layer to those of `layer`.
    leading
        Axes of the new layer before (y, x), such as channels.

    Returns
    -------
    dict
        ``affine``, ``units``.
    """
    own = Affine(
        scale=layer.scale,
        translate=layer.translate,
        rotate=layer.rotate,
        shear=layer.shear,
        ndim=layer.ndim,
    )
    whole = layer.affine.affine_matrix @ own.affine_matrix
    kept = [layer.ndim - 2, layer.ndim - 1, layer.ndim]
    inner = np.diag([*map(float, scale), 1.0])
    inner[:2, 2] = translate
    matrix = np.eye(leading + 3)
    matrix[leading:, leading:] = whole[np.ix_(kept, kept)] @ inner
    units = (*("pixel",) * leading, *layer.units[-2:])
    return {"affine": matrix, "units": units}
