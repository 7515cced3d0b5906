"""A part of a prepared image on the original grid, as if the whole had been mapped back."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from src_training.data.preprocessing.geometry import Float, Geometry

Window = tuple[slice, slice]


class Regrid:
    """`Geometry.to_original`, window by window.

    The resize is linear and separable. One matrix per axis (outputs x
    inputs), made by resizing the identity, holds it exactly and tells which
    outputs a range of inputs reaches.

    Parameters
    ----------
    geometry
        Where the prepared image lies in its original.
    """

    def __init__(self, geometry: Geometry) -> None:
        top, left, bottom, right = geometry.box
        self._geometry = geometry
        self._corner = (top, left)
        self._axes = (
            _resize_matrix(geometry.prepared[0], bottom - top),
            _resize_matrix(geometry.prepared[1], right - left),
        )

    def affected(self, window: Window) -> tuple[Window, Window]:
        """What a change in a window of the prepared grid reaches.

        Returns
        -------
        source
            The window of the prepared grid that `to_original` needs.
        region
            Rows and columns of the original that change.
        """
        rows, columns = (
            _reach(matrix, part, size)
            for matrix, part, size in zip(self._axes, window, self._geometry.prepared, strict=True)
        )
        region = (_shift(rows[1], self._corner[0]), _shift(columns[1], self._corner[1]))
        return (rows[0], columns[0]), region

    def to_original(self, maps: Float, source: Window, region: Window) -> Float:
        """Maps (K, h, w) of `source` on the pixels of `region`, (K, H, W)."""
        resized = torch.from_numpy(np.ascontiguousarray(maps))
        for axis in (0, 1):
            matrix = self._axes[axis]
            if matrix is not None:
                part = _shift(region[axis], -self._corner[axis])
                weights = matrix[part, source[axis]]
                resized = weights @ resized if axis == 0 else resized @ weights.T
        return resized.numpy()


def _resize_matrix(inputs: int, outputs: int) -> torch.Tensor | None:
    """Weights (outputs, inputs) of the bilinear resize; None if it changes nothing."""
    if inputs == outputs:
        return None
    identity = torch.eye(inputs)[None, None]
    return F.interpolate(identity, (outputs, inputs), mode="bilinear", antialias=True)[0, 0]


def _reach(matrix: torch.Tensor | None, part: slice, size: int) -> tuple[slice, slice]:
    """Inputs needed for, and range of, the outputs that the inputs `part` reach."""
    part = slice(part.start, min(part.stop, size))
    if matrix is None:
        return part, part
    outputs = _span((matrix[:, part] != 0).any(1).numpy())
    return _span((matrix[outputs] != 0).any(0).numpy()), outputs


def _span(mask: NDArray[np.bool_]) -> slice:
    true = np.flatnonzero(mask)
    return slice(int(true[0]), int(true[-1]) + 1)


def _shift(part: slice, by: int) -> slice:
    return slice(part.start + by, part.stop + by)
